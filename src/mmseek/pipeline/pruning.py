"""Documents of a collection that the files no longer have: found and taken out at the end of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

from mmseek.index.corpus import Ended

if TYPE_CHECKING:
    from mmseek._types import Document
    from mmseek.errors import ItemError
    from mmseek.protocols import Collection

__all__ = ["CAPTION", "drop_outdated", "drop_unseen", "why_not_prune"]

_AT_ONCE: Final = 256
CAPTION: Final = "#caption"  # what the id of a picture's caption ends with
_GAP: Final = 16  # that many slides in a row may have been empty where an earlier version went on


def drop_outdated(collection: Collection, ended: Sequence[Ended], seen: Callable[[str], bool]) -> int:
    """Take out pages and passages that a file no longer has, and the whole where there are passages now.

    Only documents that name the file as their parent, or as their own path, are taken out.

    Args:
        collection: open for writing.
        ended: files that were read to their end.
        seen: whether this run had a document of this id.

    Returns:
        how many there were.
    """
    dropped = 0
    files = iter(ended)
    while chunk := list(islice(files, _AT_ONCE)):
        stale: list[str] = []
        probed = {each.id: each.children + (_GAP if each.children else 1) for each in chunk}
        waiting = {name: each.id for each in chunk for name in _first(each)}
        while waiting:
            found = collection.get([name for name in collection.digests(list(waiting)) if not seen(name)])
            owned = {name for name, held in found.items() if _belongs(held, waiting[name])}
            stale += sorted(owned)
            going_on = {waiting[name] for name in owned if name != waiting[name]}
            waiting = {}
            for file in going_on:
                waiting |= dict.fromkeys(_numbered(file, probed[file]), file)
                probed[file] += _GAP
        stale += _parts_after(collection, seen, _pages(chunk))
        stale += _parts_after(collection, seen, ((name, 0) for name in list(stale)))
        stale += collection.digests([f"{name}{CAPTION}" for name in stale])
        dropped += collection.delete(stale) if stale else 0
    return dropped


def _pages(ended: Iterable[Ended]) -> Iterator[tuple[str, int]]:
    """The pages that may have parts, and how many they have."""
    for file in ended:
        if file.parts is not None:
            parts = dict(file.parts)
            yield from ((f"{file.id}#{page}", parts.get(page, 0)) for page in range(1, file.children + 1))


def _parts_after(collection: Collection, seen: Callable[[str], bool], wanted: Iterable[tuple[str, int]]) -> list[str]:
    """Ids of parts that a document (its id, how many it has) does not have any more."""
    stale: list[str] = []
    source = iter(wanted)
    while chunk := dict(islice(source, _AT_ONCE)):
        while chunk:
            names = {f"{whole}#{after + step}": whole for whole, after in chunk.items() for step in (1, 2)}
            found = collection.get([name for name in collection.digests(list(names)) if not seen(name)])
            owned = [name for name, held in found.items() if held.parent_id == names[name]]
            stale += sorted(owned)
            chunk = {whole: chunk[whole] + 2 for whole in dict.fromkeys(names[name] for name in owned)}
    return stale


def _first(ended: Ended) -> Iterator[str]:
    if not ended.children:
        yield f"{ended.id}#1"
        return
    yield ended.id
    yield from (f"{ended.id}#{number}" for number in ended.empty)
    yield from _numbered(ended.id, ended.children)


def _numbered(file: str, after: int) -> Iterator[str]:
    return (f"{file}#{number}" for number in range(after + 1, after + 1 + _GAP))


def _belongs(document: Document, file: str) -> bool:
    """Whether a document was made of this file by a run like this one."""
    if document.id == file:
        return document.parent_id is None and document.metadata.get("path") == file
    return document.parent_id == file


def why_not_prune(seen: int, failed: Iterable[ItemError]) -> str | None:
    """Why what this run has not seen cannot be taken for removed, or None if it can."""
    if not seen:
        return "the sources held no document at all, as a disk that is not mounted does"
    if any(error.item_id is None for error in failed):
        return "something could not be read that may hold documents: mend it, or leave it out of the sources"
    return None


def drop_unseen(collection: Collection, seen: Callable[[str], bool], failed: Iterable[ItemError]) -> int:
    """Take out all documents that this run did not see, but for those of files that failed; returns how many."""
    kept = {error.item_id for error in failed}
    gone = [
        document.id
        for document in collection.documents()
        if not seen(document.id) and document.parent_id not in kept and not _is_of(document.id, kept)
    ]
    for start in range(0, len(gone), _AT_ONCE):
        collection.delete(gone[start : start + _AT_ONCE])
    return len(gone)


def _is_of(name: str, files: set[str | None]) -> bool:
    """Whether an id is one of these, or of a page, passage or member of one of these."""
    if not files:
        return False
    ends = [position for position, letter in enumerate(name) if letter in "#/"]
    return name in files or any(name[:end] in files for end in ends)
