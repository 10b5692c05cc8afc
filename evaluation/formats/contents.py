"""Content out of the columns that benchmarks have: a text, a picture's path, or a picture's bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from mmseek._types import Content, Image, Part, Text
from mmseek.errors import ItemError

__all__ = ["content_key", "content_of", "picture_of", "pictures_in"]

_PLACES: Final = ("", "images", "image", "mbeir_images", "train2014", "val2014")


def pictures_in(*roots: Path) -> Callable[[str], Path]:
    """How a relative path of a picture becomes a file: below a folder, or one of the folders that benchmarks use.

    What is nowhere stays below the first folder: to open it is an error that names it.
    """
    folders = [root / place if place else root for root in roots for place in _PLACES]
    here = [folder for folder in folders if folder.is_dir()] or [roots[0]]

    def find(relative: str) -> Path:
        _refuse_outside(relative)
        return next((folder / relative for folder in here if (folder / relative).is_file()), here[0] / relative)

    return find


def _refuse_outside(relative: str) -> None:
    path = Path(relative)
    if path.is_absolute() or ".." in path.parts:
        raise ItemError(f"the picture's path {relative!r} leads out of the folder")


def picture_of(value: object, find: Callable[[str], Path]) -> Image | None:
    """A picture from a cell: a path, bytes, or the `{"bytes", "path"}` of the `datasets` library; None if empty.

    Raises:
        ItemError: it is something else, or its path leads out of the folder.
    """
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if value is None or value in ("", b""):
        return None
    if isinstance(value, bytes):
        return Image(data=value)
    if isinstance(value, str):
        return Image(path=find(value))
    raise ItemError(f"the picture is neither a path nor bytes but {type(value).__name__}")


def content_of(text: object, picture: Image | None) -> Content:
    """The picture, then the text.

    Raises:
        ItemError: there is neither, or the text is something else.
    """
    if text is not None and not isinstance(text, str):
        raise ItemError(f"the text is not a text but {type(text).__name__}")
    parts: list[Part] = [] if picture is None else [picture]
    if text and text.strip():
        parts.append(Text(text))
    if not parts:
        raise ItemError("has neither a text nor a picture")
    return Content(tuple(parts))


def content_key(text: object, picture: Any) -> str:
    """A name for content that has none: equal for equal text and picture, and it tells nothing of what is right."""
    state = hashlib.sha256(repr((text, picture)).encode())
    return state.hexdigest()[:16]
