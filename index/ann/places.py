"""Where the vectors of a stored index are in the collection's segment files, and whether they are still the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mmseek.errors import CorruptCollection

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmseek._types import FloatArray
    from mmseek.index.ann.sources import VectorSource
    from mmseek.index.ledger import Snapshot
    from mmseek.protocols import RowArray

GONE = -1  # the segment of a row that is in the index and no longer in the collection
_SPOTS = 64


class Places(NamedTuple):
    """Three arrays (n,): row numbers, ascending; the segment that each row's vector is in, or `GONE`; its row there."""

    rows: RowArray
    segments: NDArray[np.int32]
    positions: NDArray[np.int32]


def current_places(snapshot: Snapshot, known: RowArray, after: int | None = None) -> Places:
    """Where the `known` rows are now, and, if `after` is given, behind them all living rows with higher numbers."""
    segments = np.full(len(known), GONE, dtype=np.int32)
    positions = np.zeros(len(known), dtype=np.int32)
    pieces = [np.empty((0, 3), dtype=np.int64)]
    for found in snapshot.live(0 if len(known) else after or 0):
        if len(known):
            place = np.minimum(np.searchsorted(known, found[:, 0]), len(known) - 1)
            here = known[place] == found[:, 0]
            segments[place[here]], positions[place[here]] = found[here, 1], found[here, 2]
        if after is not None:
            pieces.append(found[found[:, 0] > after])
    new = np.concatenate(pieces)
    return Places(
        np.concatenate([known, new[:, 0]]),
        np.concatenate([segments, new[:, 1].astype(np.int32)]),
        np.concatenate([positions, new[:, 2].astype(np.int32)]),
    )


def ends_of(places: Places) -> dict[int, int]:
    """How many rows of each segment are needed."""
    living = places.segments != GONE
    segments, positions = places.segments[living], places.positions[living].astype(np.int64)
    if not len(segments):
        return {}
    ends = np.zeros(int(segments.max()) + 1, dtype=np.int64)
    np.maximum.at(ends, segments, positions + 1)
    return {int(number): int(ends[number]) for number in np.flatnonzero(ends)}


def take_spots(places: Places, source: VectorSource) -> dict[int, str]:
    """Some rows, the last ones among them, and hashes of their vectors."""
    living = np.flatnonzero(places.segments != GONE)
    if not len(living):
        return {}
    even = np.linspace(0, len(living) - 1, _SPOTS).astype(np.int64)
    some = living[np.unique(np.concatenate([even, np.arange(max(0, len(living) - _SPOTS // 4), len(living))]))]
    vectors = source.take(some)
    return {int(places.rows[place]): _hash(vector) for place, vector in zip(some, vectors, strict=True)}


def check_spots(spots: Mapping[int, str], places: Places, source: VectorSource) -> None:
    """Compare the vectors of some rows with those that an index was built from; rows that are gone say nothing.

    Raises:
        CorruptCollection: they differ: the ledger is of another past (an older copy was put back, and written to).
    """
    rows = np.array(sorted(spots), dtype=np.int64)
    found = np.searchsorted(places.rows, rows)
    if len(rows) and (found.max() >= len(places.rows) or (places.rows[found] != rows).any()):
        raise CorruptCollection("the stored index does not know its own rows")
    living = found[places.segments[found] != GONE]
    for place, vector in zip(living, source.take(living), strict=True):
        if _hash(vector) != spots[int(places.rows[place])]:
            raise CorruptCollection("the stored index was built from other vectors")


def _hash(vector: FloatArray) -> str:
    return hashlib.blake2b(np.ascontiguousarray(vector, dtype="<f4").tobytes(), digest_size=8).hexdigest()
