"""Folders and documents of the server that a job reads: by the readers of corpora, and below one folder only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmseek.api.server.jobs.store import JobFailure
from mmseek.api.server.reading import own_code
from mmseek.errors import InputError, ItemError, MediaNotFound, MmseekError
from mmseek.index.corpus import Deferred, Entry, Located, read_corpus
from mmseek.index.corpus.formats import named_kind

if TYPE_CHECKING:
    from mmseek._types import Document
    from mmseek.api.server.limits import ServerLimits

_LINES: Final = (None, "items")


def is_corpus(place: Path) -> bool:
    """Whether this is a folder, or a file that is more than lines of items."""
    return place.is_dir() or named_kind(place) not in _LINES


def read_place(place: Path, root: Path, limits: ServerLimits, check: Callable[[], None]) -> Iterator[Entry]:
    """The documents of a place, as `mmseek index` reads them; pictures that are files stay where they are.

    Args:
        place: a folder or a file.
        root: the folder that no picture may lie outside of.
        limits: of pictures, and what fetches those that are URLs.
        check: called before each document; what it raises ends the reading.

    Raises:
        MmseekError: the place cannot be read at all, or what `check` raised.
    """
    try:
        entries = read_corpus(place, limits=limits.media, fetcher=limits.fetcher)
    except InputError as error:
        raise InputError(_without(str(error), place)) from error
    for entry in entries:
        check()
        if isinstance(entry, Located):
            yield _checked(entry, root)
        elif isinstance(entry, Deferred):
            yield replace(entry, load=_loader(entry, root))
        else:
            yield entry


def failures_of(errors: Iterable[ItemError], place: Path) -> list[JobFailure]:
    """What failed, numbered from 1; no sentence says where the place is on the server."""
    return [JobFailure(number, *_public(error, place)) for number, error in enumerate(errors, start=1)]


def _public(error: ItemError, place: Path) -> tuple[str | None, str, str]:
    name = error.item_id or (None if error.source is None else _without(str(error.source), place))
    message = _without(error.reason, place).encode("utf-8", "backslashreplace").decode()
    return name, own_code(error), message


def _without(text: str, place: Path) -> str:
    text = text.replace(f"{place}/", "").replace(str(place), place.name)
    return text.replace(f"{place.parent}/", "").replace(str(place.parent), "the folder")


def _loader(entry: Deferred, root: Path) -> Callable[[], Document]:
    def load() -> Document:
        made = entry.load()
        _check_inside(made, root)
        return made

    return load


def _checked(entry: Located, root: Path) -> Located | ItemError:
    try:
        _check_inside(entry, root)
    except MmseekError as error:
        return ItemError(str(error), source=entry.source, line=entry.line, item_id=entry.id, kind=error.code)
    return entry


def _check_inside(document: Document, root: Path) -> None:
    """Refuse pictures that lie elsewhere: readers let lines of items name any path.

    Raises:
        MediaNotFound: one does.
    """
    for image in document.content.images:
        if image.path is not None and not image.path.resolve().is_relative_to(root):
            raise MediaNotFound(f"its picture {image.path.name!r} lies outside of the folder: move it inside")
