"""Videos -> one document of frames from the whole, or a document for each stretch of so many seconds."""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from mmseek._types import Content, Document, Image
from mmseek.errors import ItemError, MmseekError
from mmseek.index.corpus.entries import Deferred, Ended, Located, Skipped
from mmseek.video import frames_at, video_seconds

if TYPE_CHECKING:
    from mmseek.index.corpus.entries import Entry, ReadOptions, SourceFile

__all__ = ["read_video"]

_FRAMES: Final = 4  # of a segment
_LONG_SIDE: Final = 1024  # pixels
_RECIPE: Final = f"segment 1 {_FRAMES} {_LONG_SIDE}"


def read_video(file: SourceFile, options: ReadOptions) -> Iterator[Entry]:
    """One document: frames of the video. It is not opened here; a broken one fails when it is encoded.

    With `video_segments`, a document for each so many seconds, `FILE#n`: four frames, `start` and `end` in the
    metadata, in seconds; the file is their parent. Frames are cut out when they are needed.
    """
    if file.data is not None:
        where = "inside an archive: unpack the archive" if file.base is None else "at a URL: save it as a file"
        yield Skipped(file.shown, f"is a video {where}")
        return
    about = {"path": file.id, "title": file.path.stem}
    if not options.video_segments:
        yield Located(file.id, Content.frames(file.path), about, source=file.shown)
        yield Ended(file.id, 0)
        return
    try:
        length = video_seconds(file.path, file.shown, options.limits.of_videos)
        stamp = file.stamp()
    except MmseekError as error:
        yield error if isinstance(error, ItemError) else _failure(file, error)
        return
    segments = max(math.ceil(length / options.video_segments - 1e-6), 1)
    for number in range(1, segments + 1):
        start = (number - 1) * options.video_segments
        end = max(min(start + options.video_segments, length), start)
        told = {**about, "segment": number, "segments": segments, "start": round(start, 3), "end": round(end, 3)}
        recipe = f"{_RECIPE} {stamp} {file.id!r} {number}/{segments} {start} {end}"
        key = hashlib.sha256(recipe.encode("utf-8", "surrogatepass")).hexdigest()
        yield Deferred(f"{file.id}#{number}", key, file.shown, partial(_segment, file, told, start, end, options))
    yield Ended(file.id, segments)


def _segment(file: SourceFile, about: dict[str, Any], start: float, end: float, options: ReadOptions) -> Document:
    """A stretch of a video: frames from the middle of each of its quarters, and when they are shown."""
    times = [start + (2 * number + 1) * (end - start) / (2 * _FRAMES) for number in range(_FRAMES)]
    try:
        pictures = frames_at(file.path, times, file.shown, options.limits.of_videos)
    except MmseekError as error:
        raise _failure(file, error) from error
    frames = []
    for picture in pictures:
        picture.thumbnail((_LONG_SIDE, _LONG_SIDE))
        buffer = io.BytesIO()
        picture.convert("RGB").save(buffer, format="JPEG", quality=90)
        frames.append(Image(data=buffer.getvalue()))
    told = {**about, "times": [round(each, 3) for each in times]}
    return Document(f"{file.id}#{about['segment']}", Content(tuple(frames)), told, file.id)


def _failure(file: SourceFile, error: MmseekError) -> ItemError:
    return ItemError(str(error).removeprefix(f"{file.shown} "), source=file.shown, item_id=file.id, kind=error.code)
