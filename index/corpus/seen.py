"""The ids of a run: the first document of an id wins."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mmseek.errors import ItemError
from mmseek.index.corpus.entries import Deferred, Entry, Located


class SeenIds:
    """Remembers where each id was read first. About 200 bytes an id, less than the vector that belongs to it."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}  # number of the source, and the line in the lower 40 bits
        self._sources: list[str] = []

    def first_only(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Replace each document whose id came before by an error that names both places."""
        for entry in entries:
            yield self._check(entry) if isinstance(entry, Located | Deferred) else entry

    def _check(self, document: Located | Deferred) -> Located | Deferred | ItemError:
        packed = self._places.get(document.id)
        if packed is not None:
            source, line = self._sources[packed >> 40], packed & (1 << 40) - 1
            before = f"{source}:{line}" if line else source
            return ItemError(
                f"its id {document.id!r} was used before, by {before}: give this one another id",
                source=document.source,
                line=document.line,
                item_id=document.id,
            )
        if not self._sources or self._sources[-1] != document.source:
            self._sources.append(document.source)
        self._places[document.id] = (len(self._sources) - 1 << 40) + (document.line or 0)
        return document
