"""Pictures from outside, which may be anything: read within bounds, recognised by content, decoded to plain RGB.

Nothing here trusts a file's name, and no pixel is decoded before the header's size has passed the limit.
"""

from __future__ import annotations

import io
import os
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import PIL.Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from mmseek._quiet import quiet_pillow
from mmseek._types import Image
from mmseek.config import MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS, MAX_VIDEO_BYTES, MAX_VIDEO_SECONDS
from mmseek.errors import MediaError, MediaNotFound, MediaTooLarge, UrlRefused
from mmseek.video import VideoLimits, frame_png

if TYPE_CHECKING:
    from mmseek.config import Settings

__all__ = ["MIME_TYPES", "MediaInfo", "MediaLimits", "open_image", "probe", "read_bytes", "recognise"]

MIME_TYPES: Final = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
}
_KNOWN: Final = "JPEG, PNG, WEBP, GIF, BMP or TIFF"
_LONGEST_NAME: Final = 200

# Called directly and not through PIL.Image.open, whose own ceiling on pixels refuses before the size can be read and
# is a global of the process. Pictures of several frames open at their first; a phone's multi-picture JPEG as a JPEG.
_OPENERS: Final[dict[str, Callable[[io.BytesIO], ImageFile]]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
    "GIF": GifImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
}

_TURNS: Final = {
    2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
    3: PIL.Image.Transpose.ROTATE_180,
    4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
    5: PIL.Image.Transpose.TRANSPOSE,
    6: PIL.Image.Transpose.ROTATE_270,
    7: PIL.Image.Transpose.TRANSVERSE,
    8: PIL.Image.Transpose.ROTATE_90,
}
_ORIENTATION: Final = 0x0112
_TILE_WIDTH, _TILE_LENGTH = 322, 323


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """How large a picture may be: encoded, in bytes, and decoded, in pixels (width times height).

    A video has limits of its own in bytes and seconds, and its frames the pictures' limit of pixels.
    """

    max_bytes: int = MAX_IMAGE_BYTES
    max_pixels: int = MAX_IMAGE_PIXELS
    max_video_bytes: int = MAX_VIDEO_BYTES
    max_video_seconds: float = MAX_VIDEO_SECONDS

    @classmethod
    def from_settings(cls, settings: Settings) -> MediaLimits:
        """The limits that the environment asks for."""
        return cls(
            max_bytes=int(settings.max_image_bytes),
            max_pixels=settings.max_image_pixels,
            max_video_bytes=int(settings.max_video_bytes),
            max_video_seconds=settings.max_video_seconds,
        )

    @property
    def of_videos(self) -> VideoLimits:
        """Those of videos and their frames."""
        return VideoLimits(self.max_video_bytes, self.max_video_seconds, self.max_pixels)


_DEFAULT_LIMITS: Final = MediaLimits()


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What a picture's header says. `format` is a key of `MIME_TYPES`; the size is in pixels, before EXIF turning."""

    format: str
    width: int
    height: int


def recognise(data: bytes) -> str | None:
    """The format that the first bytes announce, a key of `MIME_TYPES`, or None. Says nothing of the rest."""
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    for start, kind in (
        (b"\xff\xd8\xff", "JPEG"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"GIF87a", "GIF"),
        (b"GIF89a", "GIF"),
        (b"BM", "BMP"),
        (b"II*\0", "TIFF"),
        (b"MM\0*", "TIFF"),
        (b"II+\0", "TIFF"),  # BigTIFF
        (b"MM\0+", "TIFF"),
    ):
        if data.startswith(start):
            return kind
    return None


def read_bytes(image: Image, limits: MediaLimits = _DEFAULT_LIMITS) -> bytes:
    """The encoded bytes of a picture, whatever they are; only their number is checked, before and while reading.

    A frame of a video is cut out and given as PNG.

    Raises:
        MediaNotFound: the file is not there or may not be read.
        MediaTooLarge: more than `limits.max_bytes`.
        MediaError: empty, or a folder, device or pipe; or a video that is damaged.
        MissingExtra: it is a frame of a video, and PyAV is not installed.
        UrlRefused: the picture is a URL; nothing is fetched here.
    """
    if image.url is not None:
        raise UrlRefused(f"{_name(image)} is not fetched: save the picture to a file and give its path")
    if image.frame is not None:
        return frame_png(image.path or image.data or b"", image.frame, _name(image), limits.of_videos)
    if image.path is not None:
        data = _read_file(image, image.path, limits.max_bytes)
    else:
        data = image.data or b""
        _check_bytes(image, len(data), limits.max_bytes)
    if not data:
        raise MediaError(f"{_name(image)} is empty: give a whole picture file")
    return data


def probe(data: bytes) -> MediaInfo:
    """Read a picture's header; no pixel is decoded and no limit applied.

    Raises:
        MediaError: empty, of an unknown format, or with a header that cannot be read.
    """
    image = Image(data=data)
    kind = _kind_of(image, data)
    with quiet_pillow():
        size = _webp_size(data) if kind == "WEBP" else None
        size = size or _parse_header(image, kind, data).size
    if min(size) < 1:
        raise _no_pixel(image, kind)
    return MediaInfo(kind, *size)


def open_image(image: Image, *, limits: MediaLimits = _DEFAULT_LIMITS, target: int | None = None) -> PIL.Image.Image:
    """Decode a picture to mode RGB, turned as its EXIF says, on white where it is transparent.

    Of several frames or pages the first is taken; colour profiles are ignored; 16-bit grey is scaled to 8 bits.

    Args:
        image: a path or bytes in JPEG, PNG, WEBP, GIF, BMP or TIFF.
        limits: of bytes and pixels; both are checked before any pixel is decoded.
        target: the shorter side, in pixels, that is enough. A JPEG may then be decoded at 1/2, 1/4 or 1/8 of its size,
            its shorter side never below `target`: faster, and always the same for the same bytes. Other formats are
            decoded whole.

    Raises:
        MediaNotFound: the file is not there or may not be read.
        MediaTooLarge: over one of the limits.
        MediaError: empty, of an unknown format, truncated or damaged.
        UrlRefused: the picture is a URL; nothing is fetched here.
    """
    data = read_bytes(image, limits)
    kind = _kind_of(image, data)
    with quiet_pillow():
        # The WEBP decoder allocates its canvas while it is opened: look at the size before.
        if kind == "WEBP" and (size := _webp_size(data)) is not None:
            _check_pixels(image, *size, limits.max_pixels)
        picture = _parse_header(image, kind, data)
        _check_pixels(image, *picture.size, limits.max_pixels)
        _check_tiles(image, picture, limits.max_pixels)
        try:
            if target is not None and kind == "JPEG":
                picture.draft(None, (max(target, 1), max(target, 1)))
            picture.load()
            return _turned(_to_rgb(picture), _orientation(picture))
        except PIL.Image.DecompressionBombError as error:
            raise MediaTooLarge(f"{_name(image)} unfolds to too many pixels: make it smaller") from error
        except MemoryError as error:
            raise MediaTooLarge(f"{_name(image)} does not fit into memory: make it smaller") from error
        except MediaError:
            raise
        except Exception as error:  # hostile bytes make a decoder raise anything; all of it means this
            raise _damaged(image, kind) from error


def _name(image: Image) -> str:
    """The picture's place, fit for a message: printable and not endless."""
    name = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(image)[: 4 * _LONGEST_NAME])
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME // 2]}...{name[-_LONGEST_NAME // 2 :]}"


def _damaged(image: Image, kind: str) -> MediaError:
    return MediaError(f"{_name(image)} is a truncated or damaged {kind}: save it anew or leave it out")


def _no_pixel(image: Image, kind: str) -> MediaError:
    return MediaError(f"{_name(image)} is a {kind} without any pixel: save it anew or leave it out")


def _kind_of(image: Image, data: bytes) -> str:
    if not data:
        raise MediaError(f"{_name(image)} is empty: give a whole picture file")
    kind = recognise(data)
    if kind is None:
        raise MediaError(f"{_name(image)} is not a picture of a known format: convert it to {_KNOWN}")
    return kind


def _parse_header(image: Image, kind: str, data: bytes) -> ImageFile:
    try:
        picture = _OPENERS[kind](io.BytesIO(data))
    except PIL.Image.DecompressionBombError as error:
        raise MediaTooLarge(f"{_name(image)} unfolds to too many pixels: make it smaller") from error
    except Exception as error:  # as in open_image
        raise _damaged(image, kind) from error
    if min(picture.size) < 1:
        raise _no_pixel(image, kind)
    return picture


def _check_pixels(image: Image, width: int, height: int, limit: int) -> None:
    if width * height > limit:
        raise MediaTooLarge(
            f"{_name(image)} has {width} x {height} pixels, more than the limit of {limit}: "
            "make it smaller or raise MMSEEK_MAX_IMAGE_PIXELS"
        )


def _check_tiles(image: Image, picture: ImageFile, limit: int) -> None:
    """A TIFF's tiles are decoded whole, and their size is written apart from the picture's."""
    if isinstance(picture, TiffImageFile):
        width, height = (picture.tag_v2.get(tag, 0) for tag in (_TILE_WIDTH, _TILE_LENGTH))
        if isinstance(width, int) and isinstance(height, int):
            _check_pixels(image, width, height, limit)


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Width and height from the first chunk of a WEBP (RFC 9649, section 2), or None if it is none of the three."""
    chunk, body = data[12:16], data[20:30]
    if len(body) < 10:
        return None
    if chunk == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if chunk == b"VP8L" and body[0] == 0x2F:
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", body[6:10])
        return width & 0x3FFF, height & 0x3FFF
    return None


def _orientation(picture: PIL.Image.Image) -> int:
    """The EXIF orientation, 1 (upright) where there is none. Broken EXIF does not make a picture unusable."""
    try:
        value: Any = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - as in open_image
        return 1
    return value if isinstance(value, int) else 1


def _turned(picture: PIL.Image.Image, orientation: int) -> PIL.Image.Image:
    turn = _TURNS.get(orientation)
    return picture if turn is None else picture.transpose(turn)


def _to_rgb(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Any mode to RGB; what is transparent becomes white."""
    if picture.mode.startswith("I") or picture.mode == "F":
        return _from_deep_grey(picture)
    if picture.mode == "La":
        picture = picture.convert("LA")
    if not picture.has_transparency_data:
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    full = picture.convert("RGBA")
    page = PIL.Image.new("RGB", full.size, "white")
    page.paste(full, mask=full.getchannel("A"))
    return page


def _from_deep_grey(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Grey of 16 or 32 bits or of floats to 8 bits.

    The full range of 16 bits becomes the full range of 8. Wider numbers have no fixed white: integers up to 65535 count
    as 16 bits, floats from 0 to 1 as shares of white and from 0 to 255 as they are, and anything else is stretched from
    its darkest to its brightest pixel.
    """
    import numpy as np

    values = np.asarray(picture).astype(np.float64)
    finite = np.isfinite(values)
    low, high = (float(values[finite].min()), float(values[finite].max())) if finite.any() else (0.0, 0.0)
    if picture.mode.startswith("I;16"):
        low, high = 0.0, 65535.0
    elif low >= 0 and picture.mode == "I" and high <= 65535:
        low, high = 0.0, 255.0 if high <= 255 else 65535.0
    elif low >= 0 and picture.mode == "F" and high <= 255:
        low, high = 0.0, 1.0 if high <= 1 else 255.0
    scaled = (np.nan_to_num(values, nan=low, posinf=high, neginf=low) - low) * (255.0 / ((high - low) or 1.0))
    grey = np.rint(scaled).astype(np.uint8)
    transparent = picture.info.get("transparency")
    if isinstance(transparent, int):  # a 16-bit PNG may name one grey level that is not drawn
        grey[values == transparent] = 255
    return PIL.Image.fromarray(grey).convert("RGB")


def _check_bytes(image: Image, size: int, limit: int) -> None:
    if size > limit:
        raise MediaTooLarge(
            f"{_name(image)} has {size} bytes, more than the limit of {limit}: "
            "make it smaller or raise MMSEEK_MAX_IMAGE_BYTES"
        )


def _read_file(image: Image, path: Path, limit: int) -> bytes:
    try:
        _check_file(image, path.stat(), limit)
        # Should the file become a pipe in between, opening must not wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            _check_file(image, status, limit)
            data = file.read(status.st_size + 1)
            if len(data) > status.st_size:  # it grew, or is one of those files that call themselves empty
                data += file.read(max(limit + 1 - len(data), 0))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MediaNotFound(f"{_name(image)} does not exist: check the path") from error
    except PermissionError as error:
        raise MediaNotFound(f"{_name(image)} may not be read: change its permissions") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        reason = getattr(error, "strerror", None) or "not a usable path"
        raise MediaNotFound(f"{_name(image)} cannot be read ({reason}): check the path and the disk") from error
    _check_bytes(image, len(data), limit)
    return data


def _check_file(image: Image, status: os.stat_result, limit: int) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise MediaError(f"{_name(image)} is a folder, not a picture: give the path of a file")
    if not stat.S_ISREG(status.st_mode):
        raise MediaError(f"{_name(image)} is a device or pipe, not a picture: give the path of a regular file")
    _check_bytes(image, status.st_size, limit)
