"""One collection into another of any kind: documents, vectors, digests and pictures, nothing encoded anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np

from mmseek._stored import StoredBatch
from mmseek._types import Document
from mmseek.errors import CollectionExists, CorruptCollection, EncoderMismatch, InputError
from mmseek.protocols import Collection

if TYPE_CHECKING:
    from mmseek._types import FloatArray


@dataclass(frozen=True, slots=True)
class CopyReport:
    """How many documents were copied, and how many an earlier run had copied; all of them were compared at the end."""

    copied: int
    present: int


@dataclass(frozen=True, slots=True)
class _One:
    """A document as it is stored, so that it may be stored anywhere."""

    document: Document
    vector: FloatArray
    digest: str | None

    def same(self, other: _One) -> bool:
        mine, yours = self.document, other.document
        alike = (mine.id, dict(mine.metadata), mine.parent_id) == (yours.id, dict(yours.metadata), yours.parent_id)
        return (
            alike
            and mine.content == yours.content
            and self.digest == other.digest
            and np.array_equal(self.vector, other.vector)
        )


def copy_collection(
    source: Collection,
    target: Collection,
    *,
    batch_size: int = 256,
    on_progress: Callable[[int], None] | None = None,
) -> CopyReport:
    """Copy all documents in the order of storing; what an earlier run copied is found and left.

    Args:
        source: open; not written to meanwhile.
        target: open for writing; empty, or the beginning of this very copy.
        batch_size: documents that are stored in one step.
        on_progress: called with the number of documents that are in the target.

    Raises:
        EncoderMismatch: the two are of different encoders.
        CollectionExists: the target holds something else.
        CorruptCollection: the target does not give back what was stored in it.
    """
    if batch_size < 1:
        raise InputError(f"a batch has at least 1 document, not {batch_size}")
    origin, goal = source.info(), target.info()
    if not origin.encoder.same_vectors(goal.encoder):
        raise EncoderMismatch(wanted=str(origin.encoder), stored=str(goal.encoder), place=goal.location)
    coming = _each(source.export(batch_size))
    present = _skip_present(coming, target, goal.location, batch_size)
    copied = 0
    for batch in _batches(coming, batch_size):
        documents = [one.document for one in batch]
        vectors = [one.vector for one in batch]
        stored = vectors if goal.encoder.multi_vector else np.stack(vectors)
        target.upsert(documents, stored, [one.digest for one in batch])
        copied += len(batch)
        if on_progress is not None:
            on_progress(present + copied)
    _compare(source, target, goal.location, batch_size)
    return CopyReport(copied, present)


def _skip_present(coming: Iterator[_One], target: Collection, place: str, size: int) -> int:
    """How many documents an earlier run copied; as many are taken from what comes."""
    present = 0
    for stored in _each(target.export(size)):
        one = next(coming, None)
        if one is None or not one.same(stored):
            raise CollectionExists(
                f"{place} holds other documents than the one copied from, {stored.document.id!r} for one: "
                "copy into a new collection"
            )
        present += 1
    return present


def _compare(source: Collection, target: Collection, place: str, size: int) -> None:
    """Both once more, from the disk."""
    for one, stored in zip_longest(_each(source.export(size)), _each(target.export(size))):
        if one is None or stored is None or not one.same(stored):
            name = (one or stored).document.id
            raise CorruptCollection(
                f"{place} does not give back document {name!r} as it was copied: "
                "was either collection written meanwhile? Copy again into a new one"
            )
    report = target.verify()
    if not report.ok:
        raise CorruptCollection(f"{place}: {report.problems[0]}")


def _each(batches: Iterator[StoredBatch]) -> Iterator[_One]:
    for batch in batches:
        for document, vector, digest in zip(batch.documents, batch.vectors, batch.digests, strict=True):
            yield _One(document, vector, digest)


def _batches(ones: Iterator[_One], size: int) -> Iterator[Sequence[_One]]:
    batch: list[_One] = []
    for one in ones:
        batch.append(one)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
