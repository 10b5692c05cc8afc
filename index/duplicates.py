"""Documents that a collection has more than once: equal bytes, pictures that look the same, or almost equal vectors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from mmseek._types import Document, Image
from mmseek.digest import content_key
from mmseek.errors import InputError, MmseekError
from mmseek.index.tokens.arrays import one_each
from mmseek.media import open_image
from mmseek.protocols import Collection

if TYPE_CHECKING:
    from mmseek._types import FloatArray

Kind: TypeAlias = Literal["exact", "picture", "near"]

THRESHOLD = 0.98
# Of 64 bits. Scaled and recompressed copies of a photograph differ in a few; two photographs in about 32.
PICTURE_BITS = 4
_CONTRAST = 8  # of 256 tones
_BATCH = 256
_ROWS = 1024


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Documents that are one thing, in the order in which they were stored; the first is the one to keep.

    Args:
        kind: `exact`: equal content. `picture`: pictures that look the same. `near`: vectors over the threshold.
        ids: two or more.
        score: the lowest cosine between two members that were joined; 1 for exact ones.
    """

    kind: Kind
    ids: tuple[str, ...]
    score: float


@dataclass(frozen=True, slots=True)
class DuplicateReport:
    """Groups, the largest first; `unreadable` says why a document was compared by its vector alone."""

    documents: int
    groups: tuple[DuplicateGroup, ...]
    unreadable: dict[str, str] = field(default_factory=dict)


def find_duplicates(collection: Collection, *, threshold: float = THRESHOLD, pictures: bool = True) -> DuplicateReport:
    """Compare all documents with each other. Metadata is not compared.

    Exact: by the hash of content. Near: by cosine, all pairs in blocks, so time grows with the square of the documents,
    and memory holds all vectors. Pictures: documents of one picture and no text, by the 64-bit difference hash of its
    grey 9 x 8 reduction (Krawetz, 2013), at most 4 bits apart.

    Args:
        threshold: the least cosine of near duplicates, over 0 and at most 1.
        pictures: decode pictures and compare how they look.

    Raises:
        InputError: the threshold is none.
    """
    if not 0 < threshold <= 1:
        raise InputError(f"the threshold is a cosine over 0 and at most 1, not {threshold}")
    seen = _Seen()
    for batch in collection.export(_BATCH):
        for document in batch.documents:
            seen.add(document, pictures=pictures)
        seen.vectors.append(_unit(one_each(batch.vectors)))
    matrix = np.concatenate(seen.vectors) if seen.vectors else np.empty((0, 1), dtype=np.float32)
    exact = _groups("exact", _equal_pairs(seen.keys), seen.ids)
    # An exact copy says nothing new in the other lists: its first stands for all.
    copies = {identifier for group in exact for identifier in group.ids[1:]}
    alone = [row for row, identifier in enumerate(seen.ids) if identifier not in copies]
    alike = _groups("picture", _close_hashes(seen.hashes, alone, matrix), seen.ids)
    pairs = _close_vectors(matrix, np.array(alone, dtype=np.int64), threshold)
    together = {frozenset(group.ids) for group in alike}
    near = [group for group in _groups("near", pairs, seen.ids) if frozenset(group.ids) not in together]
    groups = sorted([*exact, *alike, *near], key=lambda group: -len(group.ids))
    return DuplicateReport(len(seen.ids), tuple(groups), seen.unreadable)


Pair: TypeAlias = tuple[int, int, float]


@dataclass(slots=True)
class _Seen:
    """What is remembered of each document, by its place."""

    ids: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    hashes: dict[int, int] = field(default_factory=dict)
    vectors: list[FloatArray] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)

    def add(self, document: Document, *, pictures: bool) -> None:
        place = len(self.ids)
        self.ids.append(document.id)
        self.keys.append(None)
        try:
            self.keys[place] = content_key(document.content)
            images = document.content.images
            if pictures and len(images) == 1 and document.content.modality == "image":
                bits = difference_hash(images[0])
                if bits is not None:
                    self.hashes[place] = bits
        except MmseekError as error:
            self.unreadable[document.id] = str(error)


def difference_hash(picture: Image) -> int | None:
    """64 bits: whether each cell of a grey 9 x 8 reduction is brighter than its right neighbour.

    None for a picture of one tone, which says nothing by which it could be told from another.

    Raises:
        MediaError: the picture cannot be decoded.
    """
    from PIL.Image import Resampling

    with open_image(picture, target=64) as opened:
        small = opened.convert("L").resize((9, 8), Resampling.BOX)
    cells = np.asarray(small, dtype=np.int16)
    if np.ptp(cells) < _CONTRAST:
        return None
    return int("".join("1" if bit else "0" for bit in (cells[:, :-1] > cells[:, 1:]).ravel()), 2)


def _unit(vectors: FloatArray) -> FloatArray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def _equal_pairs(keys: Sequence[str | None]) -> Iterable[Pair]:
    first: dict[str, int] = {}
    for place, key in enumerate(keys):
        if key is not None and first.setdefault(key, place) != place:
            yield first[key], place, 1.0


def _close_hashes(hashes: dict[int, int], alone: Sequence[int], matrix: FloatArray) -> Iterable[Pair]:
    """Pairs at most 4 bits apart: of 5 pieces of their bits at least one is equal, so only those are compared."""
    pieces = PICTURE_BITS + 1
    width = -(-64 // pieces)
    shelves: dict[tuple[int, int], list[int]] = defaultdict(list)
    for place in alone:
        if place not in hashes:
            continue
        bits = hashes[place]
        compared: set[int] = set()
        for piece in range(pieces):
            shelf = shelves[piece, (bits >> (piece * width)) & ((1 << width) - 1)]
            for other in shelf:
                if other not in compared and (bits ^ hashes[other]).bit_count() <= PICTURE_BITS:
                    yield other, place, float(matrix[other] @ matrix[place])
                compared.add(other)
            shelf.append(place)


def _close_vectors(matrix: FloatArray, rows: np.ndarray, threshold: float) -> Iterable[Pair]:
    chosen = matrix[rows]
    for low in range(0, len(rows), _ROWS):
        block = chosen[low : low + _ROWS]
        for other in range(low, len(rows), _ROWS):
            scores = block @ chosen[other : other + _ROWS].T
            for a, b in np.argwhere(scores >= threshold).tolist():
                if low + a < other + b:
                    yield int(rows[low + a]), int(rows[other + b]), float(scores[a, b])


def _groups(kind: Kind, pairs: Iterable[Pair], ids: Sequence[str]) -> list[DuplicateGroup]:
    """Pairs joined into groups, each in the order of the documents."""
    parent: dict[int, int] = {}
    lowest: dict[int, float] = {}

    def root(place: int) -> int:
        while parent.setdefault(place, place) != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for a, b, score in pairs:
        one, other = sorted((root(a), root(b)))
        parent[other] = one
        lowest[one] = min(score, lowest.get(one, 1.0), lowest.get(other, 1.0))
    members: dict[int, list[int]] = defaultdict(list)
    for place in sorted(parent):
        members[root(place)].append(place)
    return [
        DuplicateGroup(kind, tuple(ids[place] for place in places), round(lowest[first], 6))
        for first, places in members.items()
    ]
