"""Hashes of items: has this one changed, and are these two the same?"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from mmseek._types import Content, Image, Text
from mmseek.errors import ItemError
from mmseek.media import MediaLimits, read_bytes

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["content_key", "digest"]

_DEFAULT_LIMITS: Final = MediaLimits()
_NOTHING: Final[Mapping[str, Any]] = {}


def digest(
    content: Content,
    metadata: Mapping[str, Any] = _NOTHING,
    parent_id: str | None = None,
    *,
    limits: MediaLimits = _DEFAULT_LIMITS,
) -> str:
    """SHA-256, in hex, of everything that makes an item what it is: an equal digest means "unchanged".

    Pictures count by their encoded bytes, so that a file may move but not change; a URL counts as its address. The
    order of metadata's keys does not matter.

    Raises:
        MediaError, MediaNotFound, UrlRefused: a picture cannot be read.
        ItemError: metadata is no JSON.
    """
    state = hashlib.sha256(b"mmseek item 1\n")
    _add_content(state, content, limits)
    _add(state, b"M", _canonical(metadata))
    if parent_id is not None:
        _add(state, b"P", _utf8(parent_id))
    return state.hexdigest()


def content_key(content: Content, *, limits: MediaLimits = _DEFAULT_LIMITS) -> str:
    """SHA-256, in hex, of the content alone: two items of equal key get the same vector. Errors as in `digest`."""
    state = hashlib.sha256(b"mmseek content 1\n")
    _add_content(state, content, limits)
    return state.hexdigest()


def _add_content(state: _Hash, content: Content, limits: MediaLimits) -> None:
    _add(state, b"N", str(len(content.parts)).encode("ascii"))
    videos: dict[Image, bytes] = {}
    for part in content.parts:
        if isinstance(part, Text):
            _add(state, b"T", _utf8(part.text))
        elif part.url is not None:
            _add(state, b"U", _utf8(part.url))
        elif part.frame is not None:
            # By the video's own bytes, which are cheaper to read than its frames are to decode.
            source = replace(part, frame=None)
            if source not in videos:
                videos[source] = hashlib.sha256(read_bytes(source, _of_videos(limits))).digest()
            _add(state, b"F", repr(part.frame).encode("ascii") + videos[source])
        else:
            _add(state, b"I", read_bytes(part, limits))


def _of_videos(limits: MediaLimits) -> MediaLimits:
    return replace(limits, max_bytes=limits.max_video_bytes)


def _add(state: _Hash, tag: bytes, payload: bytes) -> None:
    """Tag and length stand before each piece: no two sequences of pieces give the same bytes."""
    state.update(tag + len(payload).to_bytes(8, "big"))
    state.update(payload)


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _canonical(metadata: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(dict(metadata), sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise ItemError("metadata cannot be written as JSON: use strings, finite numbers, lists and objects") from error
