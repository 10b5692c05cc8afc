"""From the options of `mmseek search` to a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmseek.errors import InputError, MediaNotFound

if TYPE_CHECKING:
    from mmseek._types import Query, SearchMode, Weighted

__all__ = ["Wishes", "build_query", "split_weight"]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a query may ask for besides its text and picture, as given on the command line."""

    candidates: Sequence[str] | None = None
    texts: Sequence[str] = ()
    images: Sequence[str] = ()
    like: Sequence[str] = ()
    unlike: Sequence[str] = ()
    group: bool = False
    fold_captions: bool = False


def build_query(
    text: str | None,
    image: Path | None,
    *,
    instruction: str | None,
    k: int,
    exclude: Sequence[str],
    mode: SearchMode = "dense",
    condition: str | None = None,
    wishes: Wishes = Wishes(),
) -> Query:
    """The query of words and a picture file: the picture first, as in items.

    Raises:
        InputError: there is nothing to search for, a weight is none, or hits are to be grouped in two ways.
        MediaNotFound: a picture is not there.
    """
    from mmseek._types import Content, Query

    if text is not None and not text.strip():
        text = None
    if wishes.group and wishes.fold_captions:
        raise InputError("hits are grouped by parent or by caption: give --group or --fold-captions, not both")
    also = tuple(_weighted(wishes))
    if text is None and image is None and not (also or wishes.like or wishes.unlike):
        raise InputError("there is nothing to search for: give a text, --image FILE, or both")
    parts = [part for part in (None if image is None else _picture(image, "--image"), text) if part is not None]
    return Query(
        Content.of(*parts),
        instruction=instruction,
        k=k,
        exclude=frozenset(exclude),
        candidates=None if wishes.candidates is None else frozenset(wishes.candidates),
        mode=mode,
        filter=condition,
        also=also,
        like=tuple(wishes.like),
        unlike=tuple(wishes.unlike),
        group_by="parent" if wishes.group else "caption" if wishes.fold_captions else None,
    )


def split_weight(value: str, option: str) -> tuple[str, float]:
    """`leather:-0.3` in its two parts; without a number at the end the weight is 1.

    Raises:
        InputError: there is nothing before the weight.
    """
    words, colon, number = value.rpartition(":")
    try:
        weight = float(number) if colon else None
    except ValueError:
        weight = None
    if weight is None:
        words, weight = value, 1.0
    if not words.strip():
        raise InputError(f"{option} {value!r} has nothing before its weight: write it as {option} 'leather:-0.3'")
    return words, weight


def _weighted(wishes: Wishes) -> list[Weighted]:
    from mmseek._types import Content, Weighted

    found = []
    for value in wishes.texts:
        words, weight = split_weight(value, "--also")
        found.append(Weighted(Content.of(words), weight))
    for value in wishes.images:
        name, weight = split_weight(value, "--also-image")
        found.append(Weighted(Content.of(_picture(Path(name), "--also-image")), weight))
    return found


def _picture(path: Path, option: str) -> Path:
    """The absolute path, so that a page can be written anywhere."""
    if not path.is_file():
        raise MediaNotFound(f"{option} {path} is not a file: give the path of a picture")
    return path.absolute()
