"""What searches see: something in memory that follows the ledger, and never runs ahead of what a search reads."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from mmseek.errors import CorruptCollection
from mmseek.index.connections import Connections
from mmseek.index.ledger import Snapshot, State, reading
from mmseek.index.rwlock import ReadWriteLock
from mmseek.index.segments import Segments
from mmseek.protocols import VectorIndex

if TYPE_CHECKING:
    from mmseek._types import FloatArray
    from mmseek.protocols import RowArray

Seen = TypeVar("Seen")
IndexFactory = Callable[[int, int], VectorIndex]
# The stored index as of a snapshot and the last row number in it, or None where there is none.
StoredIndex = Callable[[Snapshot, State], tuple[VectorIndex, int] | None]


def exact_index(dim: int, capacity: int) -> VectorIndex:
    """The default index. FAISS is loaded at the first search: a writer does without it."""
    from mmseek.index.exact import FaissExactIndex

    return FaissExactIndex(dim, capacity)


class LedgerView(ABC, Generic[Seen]):
    """Something that is built of a collection at the first search and then follows it.

    Args:
        connections: to the ledger.
        segments: the rows on disk that it is made of.
        stored_key: changes whenever what is kept has to be built anew.
    """

    def __init__(
        self, connections: Connections, segments: Segments, stored_key: Callable[[], object] = lambda: None
    ) -> None:
        self._connections = connections
        self._segments = segments
        self._stored_key = stored_key
        self._key: object = None
        self._lock = ReadWriteLock()
        self._index: Seen | None = None
        self._seen: State | None = None

    @contextmanager
    def current(self) -> Iterator[tuple[Seen, Snapshot]]:
        """It and a snapshot of the ledger that agree with each other for as long as the block runs."""
        self._lock.acquire_shared()
        try:
            with self._connections.snapshot() as snapshot:
                if self._index is not None and snapshot.state() == self._seen and self._stored_key() == self._key:
                    yield self._index, snapshot
                    return
        finally:
            self._lock.release()
        self._lock.acquire_exclusive()
        try:
            with self._connections.lend() as connection, self._caught_up(connection) as (index, snapshot):
                self._lock.downgrade()
                yield index, snapshot
        finally:
            self._lock.release()

    @contextmanager
    def _caught_up(self, connection: sqlite3.Connection) -> Iterator[tuple[Seen, Snapshot]]:
        with reading(connection) as snapshot:
            try:
                index = self._follow(snapshot, snapshot.state())
            except CorruptCollection:
                index = None
            if index is not None:
                yield index, snapshot
                return
        # A compaction may have removed the files of this snapshot while they were read: a later one has others.
        with reading(connection) as snapshot:
            yield self._follow(snapshot, snapshot.state()), snapshot

    def _follow(self, snapshot: Snapshot, state: State) -> Seen:
        index, seen, self._index, self._seen = self._index, self._seen, None, None
        key = self._stored_key()  # before it is loaded: should another come meanwhile, the next search loads that
        if index is None or seen is None or seen.epoch != state.epoch or key != self._key:
            del index  # before its successor is filled: one of them in memory is enough
            index = self._built(snapshot, state, key)
        else:
            self._update(index, snapshot, seen)
        # Only a whole one is kept: after an error the next search builds it anew.
        self._index, self._seen, self._key = index, state, key
        return index

    @abstractmethod
    def _built(self, snapshot: Snapshot, state: State, key: object) -> Seen:
        """It as of a snapshot, from nothing."""

    @abstractmethod
    def _update(self, index: Seen, snapshot: Snapshot, seen: State) -> None:
        """Bring it from a state that was seen to that of a snapshot of the same epoch."""


class VectorView(LedgerView[VectorIndex]):
    """The living vectors of a collection in a `VectorIndex`, built at the first search.

    Args:
        connections: to the ledger.
        segments: the vectors on disk.
        dim: their columns.
        make_index: called with dim and the number of rows to come.
        stored: loads a stored index, if there is one; else the index is made from all vectors.
        stored_key: changes whenever another stored index is there.
    """

    def __init__(
        self,
        connections: Connections,
        segments: Segments,
        dim: int,
        make_index: IndexFactory = exact_index,
        stored: StoredIndex = lambda _snapshot, _state: None,
        stored_key: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(connections, segments, stored_key)
        self._dim = dim
        self._make_index = make_index
        self._stored = stored

    def _built(self, snapshot: Snapshot, state: State, key: object) -> VectorIndex:
        loaded = None if key is None else self._stored(snapshot, state)
        index, after = loaded or (self._make_index(self._dim, snapshot.count()), 0)
        self._add(index, snapshot, after)
        return index

    def _update(self, index: VectorIndex, snapshot: Snapshot, seen: State) -> None:
        index.remove(snapshot.died(seen.generation))
        self._add(index, snapshot, seen.next_row - 1)

    def _add(self, index: VectorIndex, snapshot: Snapshot, after: int) -> None:
        for rows, vectors in read_vectors(snapshot, self._segments, after):
            index.add(rows, vectors)


def read_vectors(snapshot: Snapshot, segments: Segments, after: int = 0) -> Iterator[tuple[RowArray, FloatArray]]:
    """Living vectors with row numbers over `after`, in order and in pieces: rows (n,) and vectors (n, dim)."""
    for places in snapshot.live(after):
        turns = np.flatnonzero(np.diff(places[:, 1])) + 1
        for piece in np.split(places, turns):
            done = 0
            for vectors in segments.read(int(piece[0, 1]), piece[:, 2]):
                yield piece[done : done + len(vectors), 0], vectors
                done += len(vectors)
