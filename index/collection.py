"""The embedded collection: a folder that holds documents and vectors, survives crashes and is searched by any number.

mmseek.json        what it is, and whose vectors (manifest)
documents.sqlite   documents and the ledger of vectors; the only thing that says what exists
vectors/           append-only float32 rows
assets/            pictures that came as bytes
ann/               an approximate index, if one was asked for; derived
LOCK               held by the one writer
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Collection as Container
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmseek._stored import StoredBatch
from mmseek._types import Document, EncoderIdentity, Hit
from mmseek.errors import CollectionError, CorruptCollection
from mmseek.index import codec
from mmseek.index.ann.files import AnnFolder
from mmseek.index.ann.info import describe
from mmseek.index.ann.keeper import AnnKeeper
from mmseek.index.assets import AssetStore
from mmseek.index.beside import Beside
from mmseek.index.checks import check_digests, check_query, check_upsert, id_list
from mmseek.index.compaction import copy_living, drop_unused_pictures
from mmseek.index.connections import Connections, empty_log
from mmseek.index.durable import bytes_below, storage_errors
from mmseek.index.filter_cache import FilterCache
from mmseek.index.filter_sql import Condition, compile_filter, restrict
from mmseek.index.head import Head, seal, write_head
from mmseek.index.ledger import Snapshot, Transaction, reading, writing
from mmseek.index.listing import read_page
from mmseek.index.lock import WriterLock
from mmseek.index.manifest import Manifest
from mmseek.index.pinning import pinned_state
from mmseek.index.searching import Limits, Searching
from mmseek.index.segments import SEGMENT_BYTES, Block, Segments
from mmseek.index.stream import found_of, hits_of, stored_batches, vectors_of
from mmseek.index.verify import Parts, verify
from mmseek.index.view import IndexFactory, VectorView, exact_index
from mmseek.protocols import CollectionInfo, DocumentPage, VerifyReport

if TYPE_CHECKING:
    from mmseek._types import FloatArray
    from mmseek.protocols import RowArray


class LocalCollection(Searching):
    """Documents and vectors of one encoder in a folder. Made by `open_collection`; safe to use from several threads.

    Args:
        folder: the collection.
        manifest: as read from it.
        lock: the right to write, or None for reading only.
        make_index: the kind of vector index searches use.
        segment_bytes: size at which a new vector file is begun.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        lock: WriterLock | None = None,
        *,
        make_index: IndexFactory = exact_index,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self._folder = folder
        self._manifest = manifest
        self._lock = lock
        self._writing = threading.Lock()
        self._assets = AssetStore(folder)
        self._segments = Segments(folder, manifest.encoder.dim, segment_bytes)
        self._connections = Connections(folder, writable=lock is not None)
        dim = manifest.encoder.dim
        self._ann = AnnKeeper(AnnFolder(folder), self._connections, self._segments, dim, self._check_writer)
        stored = (self._ann.load, self._ann.folder.key)
        self._view = VectorView(self._connections, self._segments, dim, make_index, *stored)
        self._filters = FilterCache()
        self._closed = False
        self._tail = (1, 0)  # where the next vector goes: segment and row
        if lock is not None:
            try:
                self._clean_up()
                self._ann.clean_up()
            except BaseException:
                self._connections.close()
                raise

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self._folder

    @property
    def manifest(self) -> Manifest:
        """What it says of itself."""
        return self._manifest

    @property
    def encoder(self) -> EncoderIdentity:
        """The encoder whose vectors this collection holds."""
        return self._manifest.encoder

    @property
    def ann(self) -> AnnKeeper:
        """Builds and keeps the vector index that searches use."""
        return self._ann

    def info(self) -> CollectionInfo:
        with self._connections.snapshot() as snapshot:
            return CollectionInfo(
                location=str(self._folder),
                format_version=self._manifest.format_version,
                encoder=self._manifest.encoder,
                documents=snapshot.count(),
                modalities=snapshot.modalities(),
                bytes=bytes_below(self._folder),
                created_at=self._manifest.created_at,
                updated_at=snapshot.updated_at(),
                index=describe(self._ann.folder, snapshot, self.encoder.dim),
            )

    def upsert(
        self,
        documents: Sequence[Document],
        vectors: FloatArray | Sequence[FloatArray],
        digests: Sequence[str | None] | None = None,
    ) -> None:
        matrix = check_upsert(documents, vectors, self.encoder.dim)
        check_digests(documents, digests)
        self._upsert(documents, matrix, digests)

    def _upsert(
        self, documents: Sequence[Document], matrix: FloatArray, digests: Sequence[str | None] | None, extra: Any = None
    ) -> None:
        """Store what was checked; `extra` is for `_write_beside`."""
        with self._writing:
            self._check_writer()
            if documents:
                self._store(documents, matrix, digests or [None] * len(documents), extra)
                self._ann.start_folding()

    def delete(self, ids: Container[str]) -> int:
        wanted = id_list(ids)
        return self._delete(lambda _: wanted)

    def page(self, limit: int, after: int = 0, filter: str | None = None) -> DocumentPage:  # noqa: A002
        with self._connections.snapshot() as snapshot:
            return read_page(snapshot, self._assets, limit, after, filter)

    def count_where(self, filter: str) -> int:  # noqa: A002
        with self._connections.snapshot() as snapshot:
            return snapshot.count_where(compile_filter(filter))

    def delete_where(self, filter: str) -> int:  # noqa: A002
        condition = compile_filter(filter)
        return self._delete(lambda snapshot: snapshot.ids_where(condition))

    def get(self, ids: Sequence[str]) -> dict[str, Document]:
        wanted = id_list(ids)
        with self._connections.snapshot() as snapshot:
            records = snapshot.records(wanted)
        return {name: codec.decode(records[name], self._assets) for name in wanted if name in records}

    def digests(self, ids: Sequence[str]) -> dict[str, str]:
        with self._connections.snapshot() as snapshot:
            return snapshot.digests(id_list(ids))

    def documents(self) -> Iterator[Document]:
        """All documents in the order in which they were stored, as they were when the iteration began."""
        with self._connections.snapshot() as snapshot:
            for record in snapshot.all_records():
                yield codec.decode(record, self._assets)

    def export(self, batch: int = 256) -> Iterator[StoredBatch]:
        """All documents with their vectors, as they were when the iteration began; a compaction does not disturb it."""
        with self.pinned() as (snapshot, segments):
            yield from stored_batches(snapshot, segments, self._assets, batch)

    def vectors(self, ids: Sequence[str]) -> dict[str, FloatArray]:
        with self.pinned() as (snapshot, segments):
            return vectors_of(snapshot, segments, id_list(ids))

    @contextmanager
    def pinned(self) -> Iterator[tuple[Snapshot, Segments]]:
        """One state of the ledger with its vector files held open, so that no compaction takes them away."""
        with self.pinned_files() as (snapshot, (segments, *_)):
            yield snapshot, segments

    def pinned_files(self) -> AbstractContextManager[tuple[Snapshot, list[Segments]]]:
        """As `pinned`, with each kind of vector file that there is."""
        return pinned_state(self._connections, self.files)

    def files(self, snapshot: Snapshot) -> list[tuple[Segments, dict[int, int]]]:
        """Each kind of vector file, and the rows of each file that are in use."""
        return [(self._segments, snapshot.used())]

    def _checked_query(self, vector: FloatArray) -> FloatArray:
        return check_query(vector, self.encoder.dim)

    def _nearest(self, queries: Sequence[FloatArray], k: int, limits: Limits) -> list[list[Hit]]:
        condition = restrict(limits.candidates, (), limits.filter)
        with self._view.current() as (index, snapshot):
            allowed, excluded = self._allowed(snapshot, condition, limits)
            most = min(k, len(index)) or 1
            rows, scores = index.search(np.stack(queries), most, allowed=allowed, excluded=excluded)
            best = [found_of(*one) for one in zip(rows, scores, strict=True)]
            records = snapshot.records_of_rows({row for found in best for row, _ in found})
        return [hits_of(found, records, self._assets, "dense") for found in best]

    def _allowed(
        self, snapshot: Snapshot, condition: Condition | None, limits: Limits
    ) -> tuple[RowArray | None, RowArray | None]:
        """The rows that may be found, and those that may not; None for all and for none."""
        allowed = None if condition is None else self._filters.rows(snapshot, condition)
        return allowed, snapshot.rows(limits.exclude) if limits.exclude else None

    def _by_words(self, text: str, k: int, limits: Limits) -> list[Hit]:
        condition = restrict(limits.candidates, limits.exclude, limits.filter)
        with self._connections.snapshot() as snapshot:
            if not snapshot.has_words():
                raise CollectionError(
                    f"{self._folder} was written by a version that did not search in words: "
                    "index anything into it once, which builds what is missing"
                )
            best = snapshot.search_words(text, k, condition)
            records = snapshot.records_of_rows(row for row, _ in best)
        return hits_of(best, records, self._assets, "lexical")

    def verify(self) -> VerifyReport:
        report = verify(self.parts)
        return replace(report, problems=(*report.problems, *self._ann.folder.problems()))

    @property
    def parts(self) -> Parts:
        """Of what it consists, for those who check and mend it."""
        return Parts(self._folder, self._manifest, self._connections, self._segments, self._assets)

    def rebuild_words(self) -> None:
        """Build the index of words anew from the documents."""
        with self._writing, self._connections.lend() as connection:
            self._check_writer()
            with self._transaction(connection) as (transaction, _):
                transaction.rebuild_words()

    def compact(self) -> int:
        """Give the space of replaced and deleted documents back to the disk; returns how many vectors were dropped.

        Searches go on meanwhile. Needs room for a second copy of the vectors that stay.

        Raises:
            CorruptCollection: vectors do not have their checksums; they are left as they are.
            StorageError: the disk is full or failing; nothing has changed.
        """
        with self._writing, storage_errors(self._folder), self._connections.lend() as connection:
            self._check_writer()
            with reading(connection) as snapshot:
                dropped, used = snapshot.count_dead(), snapshot.used()
                first = self._tail[0] + 1
            if dropped:
                try:
                    with reading(connection) as snapshot:
                        rows, blocks = copy_living(snapshot, self._segments, first)
                        beside = self._copy_beside(snapshot)
                    with self._transaction(connection) as (transaction, _):
                        transaction.replace_vectors(blocks, rows)
                        beside.write(transaction)
                except BaseException:
                    self._write_elsewhere()
                    raise
                self._tail = (blocks[-1].segment, blocks[-1].start + blocks[-1].rows) if blocks else (first, 0)
                self._segments.remove(used)
                beside.settled()
                with suppress(sqlite3.OperationalError):  # all is done; the ledger file just stays as large as it was
                    connection.execute("VACUUM")
                    empty_log(connection)
            drop_unused_pictures(connection, self._assets)
        self._ann.moved()
        return dropped

    def close(self) -> None:
        """Give back files and the right to write; a second call does nothing."""
        self._ann.stop()
        with self._writing:
            lock, self._lock = self._lock, None
            self._closed = True
            try:
                generation = self._flush_log() if lock is not None else None
                self._connections.close()
                if generation is not None:
                    with suppress(OSError, CorruptCollection):  # without one there is less to verify, and nothing lost
                        seal(self._folder, self._connections.path, generation)
            finally:
                if lock is not None:
                    lock.release()

    def _find_tails(self, snapshot: Snapshot) -> None:
        """Where the writer goes on."""
        self._tail = max(snapshot.used().items(), default=self._tail)

    def _write_beside(self, rows: range, extra: Any) -> Beside:  # noqa: ARG002  # for other kinds of collections
        """Write what else is stored of the documents of these rows."""
        return Beside()

    def _copy_beside(self, snapshot: Snapshot) -> Beside:  # noqa: ARG002
        """Write what else there is of living documents anew."""
        return Beside()

    def _write_elsewhere(self) -> None:
        """Should the log survive what seemed to fail, its rows must still be there: begin new files."""
        self._tail = (max(self._segments.existing(), default=0) + 1, 0)

    def _delete(self, wanted: Callable[[Snapshot], Sequence[str]]) -> int:
        with self._writing:
            self._check_writer()
            with self._connections.lend() as connection, self._transaction(connection) as (transaction, generation):
                count = transaction.delete(wanted(transaction), generation)
        return count

    def _store(
        self, documents: Sequence[Document], matrix: FloatArray, digests: Sequence[str | None], extra: Any
    ) -> None:
        with self._connections.lend() as connection:
            with reading(connection) as snapshot:
                state = snapshot.state()
            records = [
                codec.encode(row, document, digest)
                for row, (document, digest) in enumerate(zip(documents, digests, strict=True), start=state.next_row)
            ]
            pictures = (image.data for document in documents for image in document.content.images)
            with storage_errors(self._folder):
                self._assets.put(data for data in pictures if data is not None)
                block = self._append(matrix)
                beside = self._write_beside(range(state.next_row, state.next_row + len(records)), extra)
            try:
                with self._transaction(connection) as (transaction, generation):
                    transaction.delete([record.id for record in records], generation)
                    transaction.insert(records, block)
                    beside.write(transaction)
            except BaseException:
                self._write_elsewhere()
                raise
        self._tail = (block.segment, block.start + block.rows)
        beside.settled()

    def _clean_up(self) -> None:
        """Remove what a writer left that was killed, and build what an early version did not have."""
        with storage_errors(self._folder), self._connections.lend() as connection:
            with reading(connection) as snapshot:
                has_words = snapshot.has_words()
                self._find_tails(snapshot)
                for kind, used in self.files(snapshot):
                    kind.cut(used)
            if not has_words:
                with self._transaction(connection) as (transaction, _):
                    transaction.rebuild_words()

    def _flush_log(self) -> int | None:
        """Bring the log into the ledger file; the generation it is then at, or None where a reader is in the way."""
        with self._connections.lend() as connection:
            if not empty_log(connection):
                return None
            with reading(connection) as snapshot:
                return snapshot.state().generation

    def _append(self, matrix: FloatArray) -> Block:
        segment, rows = self._tail
        if self._segments.is_full(rows, len(matrix)):
            segment, rows = segment + 1, 0
        return self._segments.append(segment, rows, matrix)

    @contextmanager
    def _transaction(self, connection: sqlite3.Connection) -> Iterator[tuple[Transaction, int]]:
        """One step of the collection to its next generation."""
        with reading(connection) as snapshot:
            generation = snapshot.state().generation
        with storage_errors(self._folder):
            write_head(self._folder, Head(generation))  # breaks the seal before the file changes
        with writing(connection) as transaction:
            yield transaction, generation + 1
            transaction.finish(generation + 1)
        # The call is durable now; a head that could not be written is only behind.
        with suppress(OSError):
            write_head(self._folder, Head(generation + 1))

    def _check_writer(self) -> None:
        if self._closed:
            raise CollectionError(f"the collection {self._folder} is closed: open it again")
        if self._lock is None:
            raise CollectionError(f'{self._folder} is open for reading only: open it with mode="write"')
