"""A document as a point of Qdrant, and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mmseek._types import Document
from mmseek.errors import CorruptCollection
from mmseek.index import codec
from mmseek.index.codec import Record
from mmseek.index.qdrant import facts
from mmseek.index.qdrant.pictures import Pictures
from mmseek.index.qdrant.store import Point, point_id
from mmseek.index.qdrant.terms import Tokenizer, document_vector
from mmseek.index.words import words_of

if TYPE_CHECKING:
    from mmseek._types import FloatArray

SHOWN = ("row", "id", "item", "modality", "parent", "digest")  # what a document is made of


def to_points(
    records: Sequence[Record],
    vectors: FloatArray | Sequence[FloatArray],
    tokenizer: Tokenizer,
    mean0: float | None,
) -> tuple[list[Point], float | None]:
    """The points of documents with their vectors, and the mean length that words are weighted under.

    Args:
        records: as `codec` makes them; their row is the time of storing.
        vectors: in their order, (dim,) or (tokens, dim) each.
        tokenizer: cuts texts into terms.
        mean0: the collection's; None where no document had words so far, and then that of these documents.
    """
    counts = tokenizer.count([words_of(record.item) for record in records])
    lengths = [sum(count.values()) for count in counts]
    if mean0 is None and any(lengths):
        mean0 = sum(lengths) / len(lengths)
    points = []
    for record, vector, count, length in zip(records, vectors, counts, lengths, strict=True):
        payload = {
            "row": record.row,
            "id": record.id,
            "item": record.item,
            "modality": record.modality,
            "parent": record.parent_id,
            "digest": record.digest,
            "checksum": checksum(record, vector),
            "terms": list(count),
            "counts": list(count.values()),
            "length": length,
            **facts.describe(record.item, _reserved(record)),
        }
        points.append(Point(point_id(record.id), payload, vector, document_vector(count, mean0 or 1.0)))
    return points, mean0


def to_record(payload: Mapping[str, Any]) -> Record:
    """What `codec` reads a document from.

    Raises:
        CorruptCollection: a field is missing.
    """
    try:
        return Record._make((*(payload[name] for name in SHOWN), b""))
    except KeyError as error:
        raise CorruptCollection(
            f"a stored document has no {error}: run `mmseek verify`, then index it again"
        ) from error


def to_document(payload: Mapping[str, Any], pictures: Pictures) -> Document:
    """The document of a point; pictures the collection keeps are given by their path."""
    return codec.decode(to_record(payload), pictures)


def checksum(record: Record, vector: FloatArray) -> str:
    """32 hexadecimal digits over all that a document says and its vector (dim,), or vectors (tokens, dim)."""
    said = json.dumps(list(record[:-1])).encode()
    return hashlib.blake2b(said + np.asarray(vector, dtype="<f4").tobytes(), digest_size=16).hexdigest()


def derived(payload: Mapping[str, Any], tokenizer: Tokenizer) -> bool:
    """Whether what filters and words are found by is what the document says."""
    record = to_record(payload)
    count = tokenizer.count([words_of(record.item)])[0]
    stored = dict(zip(payload["terms"], payload["counts"], strict=True))
    same = facts.describe(record.item, _reserved(record))["facts"] == payload["facts"]
    return same and stored == dict(count) and payload["length"] == sum(count.values())


def _reserved(record: Record) -> dict[str, str | None]:
    return {"id": record.id, "modality": record.modality, "parent_id": record.parent_id}
