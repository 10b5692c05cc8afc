"""Frames of videos, which may be anything: recognised by content, bounded in bytes, seconds and pixels, cut by PyAV.

A video is read through a file that is already open and as the one container that its first bytes announce, so nothing
in it can make FFmpeg open another file or address.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import stat
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from mmseek.config import MAX_IMAGE_PIXELS, MAX_VIDEO_BYTES, MAX_VIDEO_SECONDS
from mmseek.errors import MediaError, MediaNotFound, MediaTooLarge, MissingExtra

if TYPE_CHECKING:
    import PIL.Image

__all__ = [
    "FRAMES",
    "VIDEO_TYPES",
    "VideoLimits",
    "frame_png",
    "frames_at",
    "recognise_video",
    "video_seconds",
]

FRAMES: Final = 8
"""How many frames stand for a video where nobody says: as many as VLM2Vec-V2 (arXiv 2507.04590) samples."""
# FFmpeg's name of a container -> its MIME type.
VIDEO_TYPES: Final = {"mov": "video/mp4", "matroska": "video/webm", "avi": "video/x-msvideo"}
_KNOWN: Final = "MP4, MOV, WebM, MKV or AVI"
# Frames as PNG of the videos read last: the frames of one video are asked for one after the other.
_KEPT_BYTES: Final = 256 * 1024**2


@dataclass(frozen=True, slots=True)
class VideoLimits:
    """How large a video may be: in bytes, in seconds, and each frame in pixels."""

    max_bytes: int = MAX_VIDEO_BYTES
    max_seconds: float = MAX_VIDEO_SECONDS
    max_pixels: int = MAX_IMAGE_PIXELS


class _Kept:
    """Frames by video, the one used last at the end, as many as fit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frames: OrderedDict[Hashable, tuple[bytes, ...]] = OrderedDict()

    def get(self, key: Hashable) -> tuple[bytes, ...] | None:
        with self._lock:
            if key in self._frames:
                self._frames.move_to_end(key)
            return self._frames.get(key)

    def put(self, key: Hashable, frames: tuple[bytes, ...]) -> None:
        with self._lock:
            self._frames[key] = frames
            while len(self._frames) > 1 and sum(map(len, sum(self._frames.values(), ()))) > _KEPT_BYTES:
                self._frames.popitem(last=False)


_KEPT: Final = _Kept()


def recognise_video(head: bytes) -> str | None:
    """The container that the first 12 bytes announce, a key of `VIDEO_TYPES`, or None."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mov"
    if head.startswith(b"\x1aE\xdf\xa3"):
        return "matroska"
    return "avi" if head.startswith(b"RIFF") and head[8:12] == b"AVI " else None


def frame_png(source: Path | bytes, frame: tuple[int, int], name: str, limits: VideoLimits) -> bytes:
    """One of `frame[1]` frames at equal distances, the first and the last among them, as lossless PNG, upright.

    A video of fewer frames gives some of them several times.

    Args:
        source: the path of a video, or its bytes.
        frame: which frame, from 0, and of how many.
        name: of the video, for messages.
        limits: see there.

    Raises:
        MissingExtra: PyAV is not installed.
        MediaNotFound: the file is not there or may not be read.
        MediaTooLarge: over one of the limits.
        MediaError: no video of a known container, truncated, damaged, or without any frame.
    """
    if importlib.util.find_spec("av") is None:
        raise MissingExtra("a video", "video")
    number, count = frame
    with _opened(source, name, limits.max_bytes) as (file, identity):
        key = (identity, count, limits)
        frames = _KEPT.get(key)
        if frames is None:
            frames = tuple(_png(picture) for picture in _sampled(file, count, name, limits))
            _KEPT.put(key, frames)
    return frames[number]


@contextmanager
def _opened(source: Path | bytes, name: str, most: int) -> Iterator[tuple[BinaryIO, Hashable]]:
    """The open video and what tells it from others."""
    if isinstance(source, bytes):
        _check_size(len(source), name, most)
        yield io.BytesIO(source), hashlib.sha256(source).digest()
        return
    try:
        # Should it be a pipe, opening must not wait for a writer.
        descriptor = os.open(source, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MediaNotFound(f"{name} does not exist: check the path") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a usable path"
        raise MediaNotFound(f"{name} cannot be read ({reason}): check the path and the disk") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise MediaError(f"{name} is no regular file, and so no video: give the path of a file")
    with os.fdopen(descriptor, "rb") as file:
        _check_size(status.st_size, name, most)
        yield file, (status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)


def _check_size(size: int, name: str, most: int) -> None:
    if not size:
        raise MediaError(f"{name} is empty: give a whole video file")
    if size > most:
        raise MediaTooLarge(
            f"{name} has {size} bytes, more than the limit of {most}: make it smaller or raise MMSEEK_MAX_VIDEO_BYTES"
        )


def video_seconds(source: Path | bytes, name: str, limits: VideoLimits) -> float:
    """How long a video is, in seconds; nothing is decoded. Arguments and errors as in `frame_png`."""
    with _decodable(source, name, limits) as (_, stream, times, _):
        last = times[-1] - times[-2] if len(times) > 1 else 0
        return float((times[-1] - times[0] + last) * stream.time_base)


def frames_at(source: Path | bytes, seconds: Sequence[float], name: str, limits: VideoLimits) -> list[PIL.Image.Image]:
    """The frames that are shown so many seconds after the first, upright. `seconds` ascend.

    Other arguments and errors as in `frame_png`.
    """
    with _decodable(source, name, limits) as (opened, stream, times, keys):
        targets = [times[0] + float(after / stream.time_base) for after in seconds]
        shown = [times[max(bisect_right(times, target) - 1, 0)] for target in targets]
        return _cut(opened, stream, shown, keys, name, limits.max_pixels)


def _sampled(file: BinaryIO, count: int, name: str, limits: VideoLimits) -> list[PIL.Image.Image]:
    with _stream_of(file, name, limits) as (opened, stream):
        times, keys = _times(opened, stream, name, limits.max_seconds)
        return _cut(opened, stream, [times[n] for n in _places(len(times), count)], keys, name, limits.max_pixels)


# The times of the frames of the video looked at last: its parts are asked for one after the other.
_looked_at: tuple[Hashable, tuple[list[int], list[int]]] | None = None


@contextmanager
def _decodable(source: Path | bytes, name: str, limits: VideoLimits) -> Iterator[tuple[Any, Any, list[int], list[int]]]:
    """A video with its stream, the times of all frames, and of those that stand alone."""
    global _looked_at
    if importlib.util.find_spec("av") is None:
        raise MissingExtra("a video", "video")
    with (
        _opened(source, name, limits.max_bytes) as (file, identity),
        _stream_of(file, name, limits) as (opened, stream),
    ):
        known = _looked_at  # read once: another thread may look at another video
        if known is None or known[0] != (identity, limits):
            known = ((identity, limits), _times(opened, stream, name, limits.max_seconds))
            _looked_at = known
        yield opened, stream, *known[1]


@contextmanager
def _stream_of(file: BinaryIO, name: str, limits: VideoLimits) -> Iterator[tuple[Any, Any]]:
    """The container and its first stream of pictures; whatever goes wrong while it is used means a damaged video."""
    import av

    container = recognise_video(file.read(12))
    if container is None:
        raise MediaError(f"{name} is not a video of a known format: convert it to {_KNOWN}")
    file.seek(0)
    try:
        with av.open(file, format=container) as opened:
            if not opened.streams.video:
                raise MediaError(f"{name} holds no pictures, only sound or text: leave it out")
            stream = opened.streams.video[0]
            _check_pixels(stream.codec_context.width, stream.codec_context.height, name, limits.max_pixels)
            stream.codec_context.thread_count = 1  # items are prepared in several threads already
            yield opened, stream
    except MediaError:
        raise
    except MemoryError as error:
        raise MediaTooLarge(f"{name} does not fit into memory: make it smaller") from error
    except Exception as error:  # hostile bytes make a decoder raise anything
        raise _damaged(name) from error


def _times(opened: Any, stream: Any, name: str, most: float) -> tuple[list[int], list[int]]:
    """When each frame is shown, in the stream's unit, and when those that stand alone are; nothing is decoded."""
    times: list[int] = []
    keys: list[int] = []
    for packet in opened.demux(stream):
        time = packet.dts if packet.pts is None else packet.pts
        if time is None or not packet.size:
            continue
        times.append(time)
        if packet.is_keyframe:
            keys.append(time)
        if (max(time, times[0]) - times[0]) * stream.time_base > most:
            raise MediaTooLarge(
                f"{name} is longer than the limit of {most:g} seconds: cut it or raise MMSEEK_MAX_VIDEO_SECONDS"
            )
    if not times:
        raise _damaged(name)
    return sorted(times), sorted(keys)


def _places(length: int, count: int) -> list[int]:
    """`count` places from 0 to `length` - 1 at equal distances, rounded down."""
    return [place * (length - 1) // max(count - 1, 1) for place in range(count)]


def _cut(opened: Any, stream: Any, targets: list[int], keys: list[int], name: str, most: int) -> list[PIL.Image.Image]:
    """The frames shown at these times, decoding from the nearest frame before each that stands alone."""
    found: list[PIL.Image.Image] = []
    frames: Iterator[Any] | None = None
    current: Any = None
    for target in targets:
        place = bisect_right(keys, target)
        key = keys[place - 1] if place else targets[0]
        if frames is None or current is None or key > current.pts:
            opened.seek(key, stream=stream)
            frames, current = opened.decode(stream), None
        while current is None or current.pts < target:
            following = next(frames, None)
            if following is None:
                break
            current = following
            _check_pixels(current.width, current.height, name, most)
            if current.pts is None:
                current.pts = current.dts or 0
        if current is None:
            raise _damaged(name)
        picture: PIL.Image.Image = current.to_image()
        found.append(picture.rotate(current.rotation, expand=True) if current.rotation else picture)
    return found


def _png(picture: PIL.Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _check_pixels(width: int, height: int, name: str, most: int) -> None:
    if width * height > most:
        raise MediaTooLarge(
            f"{name} has frames of {width} x {height} pixels, more than the limit of {most}: "
            "make it smaller or raise MMSEEK_MAX_IMAGE_PIXELS"
        )


def _damaged(name: str) -> MediaError:
    return MediaError(f"{name} is a truncated or damaged video: save it anew or leave it out")
