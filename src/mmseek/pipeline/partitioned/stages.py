"""What runs in the workers: reading partitions, encoding, and writing where there may be many writers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmseek._types import EncodeRequest
from mmseek.digest import digest
from mmseek.errors import EncodeError, ItemError, MmseekError, ModelError
from mmseek.index import open_collection
from mmseek.media import MediaLimits
from mmseek.pipeline.jobs import Job, failure, store, unchanged_ids
from mmseek.pipeline.partitioned.ledger import mark
from mmseek.pipeline.partitioned.lines import digest_in, from_line
from mmseek.pipeline.partitioned.plan import read_partition
from mmseek.pipeline.partitioned.rows import Row, Status, problem, read_rows, table

if TYPE_CHECKING:
    import pyarrow as pa

    from mmseek._types import Document, EncoderIdentity
    from mmseek.protocols import Collection, Encoder

__all__ = ["EncodeActor", "Stage", "WriteActor", "read_partitions", "store_rows"]


@dataclass(frozen=True, slots=True)
class Stage:
    """What the workers have to know.

    Args:
        place: of the collection.
        folder: of the plan.
        encoder: the identity of the one that made the collection.
        limits: of the pictures that are hashed.
        batch: documents in one table.
    """

    place: Path | str
    folder: Path
    encoder: EncoderIdentity
    limits: MediaLimits
    batch: int


def read_partitions(partitions: pa.Table, stage: Stage) -> Iterator[pa.Table]:
    """Read partitions, hash their documents and see which of them changed. One row each, in order.

    Args:
        partitions: column `partition`.
        stage: see there.
    """
    try:
        with closing(open_collection(stage.place, mode="read", encoder=stage.encoder)) as collection:
            for number in partitions.column("partition").to_pylist():
                source = _read(number, stage, collection)
                while chunk := list(islice(source, stage.batch)):
                    yield table(chunk)
    except MmseekError as error:
        yield problem(error)


def _read(number: int, stage: Stage, collection: Collection) -> Iterator[Row]:
    source = enumerate(read_partition(stage.folder, number))
    while chunk := list(islice(source, stage.batch)):
        rows: list[Row] = []
        jobs: list[Job] = []
        for position, (order, line, document) in chunk:
            row = Row(number, position, order, Status.CHANGED, line)
            try:
                found = digest_in(line) or digest(
                    document.content, document.metadata, document.parent_id, limits=stage.limits
                )
            except MmseekError as error:
                rows.append(_failed(row, document, error))
            else:
                jobs.append(Job(document, found))
                rows.append(replace(row, digest=found, mark=mark(document.id, found)))
        unchanged = unchanged_ids(jobs, collection)
        for (_, (_, _, document)), row in zip(chunk, rows, strict=True):
            if row.status == Status.CHANGED and document.id in unchanged:
                yield replace(row, status=Status.UNCHANGED, line=b"")
            elif row.status == Status.CHANGED and document.content.is_empty:
                # It was held when the plan was made, and so not drawn.
                yield _failed(row, document, ItemError("was changed by somebody else during the run: run it again"))
            else:
                yield row


def _failed(row: Row, document: Document, error: MmseekError) -> Row:
    return replace(row, status=Status.FAILED, reason=failure(document, error).reason, digest="", mark=b"", vector=b"")


class EncodeActor:
    """Encodes the documents that changed; what else there is passes through.

    Args:
        load: gives the encoder.
        stage: see there.
    """

    def __init__(self, load: Callable[[], Encoder], stage: Stage) -> None:
        self._stage = stage
        self._problem: MmseekError | None = None
        try:
            self._encoder = load()
            if self._encoder.identity.fingerprint != stage.encoder.fingerprint:
                raise ModelError(f"it is {self._encoder.identity}, and the collection's is {stage.encoder}")
        except MmseekError as error:
            # A constructor that raises would be tried again without end.
            self._problem = ModelError(f"a worker cannot use the encoder: {error}")

    def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
        if self._problem is not None:
            yield problem(self._problem)
            return
        source = read_rows(rows)
        while chunk := list(islice(source, self._stage.batch)):
            yield table(self._encode(chunk))

    def _encode(self, rows: Sequence[Row]) -> Iterator[Row]:
        changed = [row for row in rows if row.status == Status.CHANGED]
        documents = [from_line(row.line) for row in changed]
        outcomes = self._encoder.stream(EncodeRequest(document.content) for document in documents)
        done: dict[int, Row] = {}
        # The stream is read to its end, so that its threads end too.
        for place, outcome in enumerate(outcomes):
            row = changed[place]
            if outcome.vector is None:
                error = outcome.error or EncodeError("the encoder gave no vector")
                done[id(row)] = _failed(row, documents[place], error)
            else:
                vector = np.ascontiguousarray(outcome.vector, dtype="<f4").tobytes()
                done[id(row)] = replace(row, status=Status.ENCODED, vector=vector)
        return (done.get(id(row), row) for row in rows)


def store_rows(rows: Sequence[Row], collection: Collection) -> Iterator[Row]:
    """Store what was encoded; each row comes back once it is durable or has failed, the latter with its line."""
    documents = [from_line(row.line) for row in rows]
    jobs = [Job(document, row.digest) for document, row in zip(documents, rows, strict=True)]
    vectors = [np.frombuffer(row.vector, dtype="<f4") for row in rows]
    for position, error in store(collection, jobs, vectors):
        row = rows[position]
        if error is None:
            yield replace(row, status=Status.STORED, line=b"", vector=b"")
        else:
            yield _failed(row, documents[position], error)


class WriteActor:
    """One of several writers of a collection that takes many: stores what was encoded.

    Args:
        stage: see there.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._collection: Collection | None = None

    def __call__(self, rows: pa.Table) -> Iterator[pa.Table]:
        try:
            if self._collection is None:
                self._collection = open_collection(self._stage.place, mode="write", encoder=self._stage.encoder)
            source = read_rows(rows)
            while chunk := list(islice(source, self._stage.batch)):
                encoded = [row for row in chunk if row.status == Status.ENCODED]
                others = (row for row in chunk if row.status != Status.ENCODED)
                yield table(chain(others, store_rows(encoded, self._collection)))
        except MmseekError as error:
            yield problem(error)
