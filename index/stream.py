"""Reading all of a collection, as it was at one instant, while others write and compact it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mmseek._stored import StoredBatch
from mmseek._types import Document, Hit, Image, Part
from mmseek.errors import CorruptCollection, InputError
from mmseek.index import codec
from mmseek.index.assets import AssetStore
from mmseek.index.ledger import Snapshot
from mmseek.index.segments import Segments
from mmseek.index.view import read_vectors

if TYPE_CHECKING:
    from mmseek._types import FloatArray
    from mmseek.protocols import RowArray


def stored_batches(snapshot: Snapshot, segments: Segments, assets: AssetStore, batch: int) -> Iterator[StoredBatch]:
    """All documents of a snapshot with their vectors, `batch` at a time.

    Args:
        segments: pinned, so that a compaction does not take the files away.
        batch: documents in one piece, at least 1.

    Raises:
        CorruptCollection: a document, a vector file or a kept picture is damaged or gone.
    """
    if batch < 1:
        raise InputError(f"a batch has at least 1 document, not {batch}")
    for rows, vectors in read_vectors(snapshot, segments):
        for start in range(0, len(rows), batch):
            wanted = rows[start : start + batch].tolist()
            records = snapshot.records_of_rows(wanted)
            if len(records) != len(wanted):
                raise CorruptCollection("a vector of the collection belongs to no document: run `mmseek verify`")
            found = [records[row] for row in wanted]
            yield StoredBatch(
                tuple(with_bytes(codec.decode(record, assets), assets) for record in found),
                vectors[start : start + batch].copy(),
                tuple(record.digest for record in found),
            )


def with_bytes(document: Document, assets: AssetStore) -> Document:
    """The document with the pictures that the collection keeps as bytes; others stay where they are."""
    if not document.content.images:
        return document
    parts = tuple(_with_bytes(part, assets) for part in document.content.parts)
    return replace(document, content=replace(document.content, parts=parts))


def _with_bytes(part: Part, assets: AssetStore) -> Part:
    if not isinstance(part, Image) or part.path is None or not assets.keeps(part.path):
        return part
    try:
        return replace(part, path=None, data=part.path.read_bytes())
    except OSError as error:
        raise CorruptCollection(f"{part.path} cannot be read ({error.strerror}): run `mmseek verify`") from error


def vectors_of(snapshot: Snapshot, segments: Segments, ids: Iterable[str]) -> dict[str, FloatArray]:
    """The vectors (dim,) of these ids; unknown ids are left out."""
    places = snapshot.places_of(ids)
    found: dict[str, FloatArray] = {}
    for segment in sorted({segment for _, segment, _ in places}):
        inside = sorted((position, name) for name, at, position in places if at == segment)
        positions = np.array([position for position, _ in inside], dtype=np.int64)
        rows = np.concatenate(list(segments.read(segment, positions)))
        found.update((name, row.copy()) for (_, name), row in zip(inside, rows, strict=True))
    return found


def found_of(rows: RowArray, scores: FloatArray) -> list[tuple[int, float]]:
    """The rows (k,) of an index's answer and their scores (k,), what only fills it up left out."""
    return [(row, score) for row, score in zip(rows.tolist(), scores.tolist(), strict=True) if row >= 0]


def hits_of(
    best: Iterable[tuple[int, float]], records: Mapping[int, codec.Record], assets: AssetStore, kind: str
) -> list[Hit]:
    """Rows and their scores, best first, as hits; `kind` names the score."""
    hits = []
    for rank, (row, score) in enumerate(best, start=1):
        document = codec.decode(records[row], assets)
        hits.append(Hit(rank, document.id, score, {kind: score}, document))
    return hits
