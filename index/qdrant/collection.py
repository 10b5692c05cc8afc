"""A collection in Qdrant: one code for the engine in this process, for a server and for a cluster.

A document is a point: its vector, its words as a sparse vector, and a payload with all that it says. One more point,
without vectors, says what the collection is. Pictures that came as bytes are in a folder where there is one, and
points too where there is none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Collection as Container
from typing import TYPE_CHECKING, Any

import numpy as np

from mmseek._stored import StoredBatch
from mmseek._types import Document, EncoderIdentity, Hit
from mmseek.errors import CollectionError, InputError
from mmseek.index import codec
from mmseek.index.checks import check_digests, check_query, check_upsert, id_list
from mmseek.index.ledger import now
from mmseek.index.qdrant import records
from mmseek.index.qdrant.bm25 import best_by_words
from mmseek.index.qdrant.conditions import restrict
from mmseek.index.qdrant.listing import read_page
from mmseek.index.qdrant.meta import Meta, write_meta
from mmseek.index.qdrant.pictures import Pictures
from mmseek.index.qdrant.portable import portable
from mmseek.index.qdrant.reading import all_found, first_by_score, newest_row, read_field
from mmseek.index.qdrant.store import DOCUMENTS, Condition, Found, Nearest, Options, Store, point_id
from mmseek.index.qdrant.terms import Tokenizer
from mmseek.index.qdrant.verify import verify
from mmseek.index.searching import Limits, Searching
from mmseek.index.tokens.arrays import check_token_query, check_tokens
from mmseek.protocols import CollectionInfo, DocumentPage, VerifyReport

if TYPE_CHECKING:
    from mmseek._types import FloatArray

_PAGE = 256
_MOST_INDEXES = 64
_MOST_TOKENS = 2**20 // 8  # of a document: Qdrant takes a vector of a million numbers at most
_INDEX_FROM = 10_000  # documents; fewer are scanned as fast


class QdrantCollection(Searching):
    """Documents and vectors of one encoder in a Qdrant. Made by `open_collection`; safe to use from several threads.

    Args:
        store: where.
        meta: whose vectors; as read from there.
        pictures: those that came as bytes.
        writable: whether it may be changed.
        options: how it is searched.
        release: called once when it is closed.
    """

    def __init__(
        self,
        store: Store,
        meta: Meta,
        pictures: Pictures,
        *,
        writable: bool,
        options: Options,
        release: Callable[[], None],
    ) -> None:
        self._opened = store
        self._meta = meta
        self._pictures = pictures
        self._writable = writable
        self._options = options
        self._release = release
        self._writing = threading.Lock()
        self._closed = False
        self._tokenizer = Tokenizer()
        self._last_row = newest_row(store) if writable else 0
        self._stored = store.count(DOCUMENTS) if writable else 0  # at least as many as there are
        self._numbers: set[str] = set()  # fields with numbers that were met, and have no index yet
        self._settled: set[str] = set()  # those that need no index any more

    @property
    def encoder(self) -> EncoderIdentity:
        """The encoder whose vectors this collection holds."""
        return self._meta.encoder

    def info(self) -> CollectionInfo:
        store = self._store
        meta = Meta.of(store) or self._meta
        kinds = ("image", "image,text", "text")
        counts = {kind: store.count(_and(DOCUMENTS, {"key": "modality", "match": {"value": kind}})) for kind in kinds}
        return CollectionInfo(
            location=store.place,
            format_version=meta.format_version,
            encoder=meta.encoder,
            documents=store.count(DOCUMENTS),
            modalities={kind: count for kind, count in counts.items() if count},
            bytes=store.bytes(self.encoder.dim),
            created_at=meta.created_at,
            updated_at=meta.updated_at,
        )

    def upsert(
        self,
        documents: Sequence[Document],
        vectors: FloatArray | Sequence[FloatArray],
        digests: Sequence[str | None] | None = None,
    ) -> None:
        matrix: FloatArray | Sequence[FloatArray]
        if self.encoder.multi_vector:
            matrix = check_tokens(documents, vectors, self.encoder.dim, _MOST_TOKENS).each()
        else:
            matrix = check_upsert(documents, vectors, self.encoder.dim)
        check_digests(documents, digests)
        with self._writing:
            store = self._writable_store()
            if documents:
                self._upsert(store, documents, matrix, digests or [None] * len(documents))

    def delete(self, ids: Container[str]) -> int:
        wanted = list(dict.fromkeys(id_list(ids)))
        with self._writing:
            store = self._writable_store()
            there = [found.id for found in store.retrieve([point_id(name) for name in wanted], ["row"])]
            if there:
                store.delete(there)
                self._meta = write_meta(store, Meta.of(store) or self._meta)
        return len(there)

    def page(self, limit: int, after: int = 0, filter: str | None = None) -> DocumentPage:  # noqa: A002
        store = self._store
        return read_page(store, self._pictures, limit, after, self._condition(store, Limits([], None, filter)))

    def count_where(self, filter: str) -> int:  # noqa: A002
        store = self._store
        return store.count(_and(DOCUMENTS, self._condition(store, Limits([], None, filter)) or DOCUMENTS))

    def delete_where(self, filter: str) -> int:  # noqa: A002
        where = self._condition(self._store, Limits([], None, filter))
        pages = all_found(self._store, _PAGE, ("row", "id"), where=where)
        return self.delete([found.payload["id"] for page in pages for found in page])

    def get(self, ids: Sequence[str]) -> dict[str, Document]:
        found = self._retrieve(id_list(ids), records.SHOWN)
        return {name: records.to_document(payload, self._pictures) for name, payload in found.items()}

    def digests(self, ids: Sequence[str]) -> dict[str, str]:
        found = self._retrieve(id_list(ids), ("id", "digest"))
        return {name: payload["digest"] for name, payload in found.items() if payload["digest"] is not None}

    def documents(self) -> Iterator[Document]:
        """All documents in the order in which they were stored; none that is stored after the iteration began."""
        for page in all_found(self._store, _PAGE, records.SHOWN):
            for found in page:
                yield records.to_document(found.payload, self._pictures)

    def export(self, batch: int = _PAGE) -> Iterator[StoredBatch]:
        """See `Collection.export`."""
        if batch < 1:
            raise InputError(f"a batch has at least 1 document, not {batch}")
        for page in all_found(self._store, batch, records.SHOWN, vectors=True):
            yield StoredBatch(
                tuple(portable(records.to_document(found.payload, self._pictures)) for found in page),
                self._together([found.dense for found in page if found.dense is not None]),
                tuple(found.payload["digest"] for found in page),
            )

    def vectors(self, ids: Sequence[str]) -> dict[str, FloatArray]:
        """See `Collection.vectors`."""
        where = self._condition(self._store, Limits([], id_list(ids), None))
        pages = all_found(self._store, _PAGE, ("row", "id"), vectors=True, where=where)
        return {found.payload["id"]: found.dense for page in pages for found in page if found.dense is not None}

    def _nearest(self, queries: Sequence[FloatArray], k: int, limits: Limits) -> list[list[Hit]]:
        return [self._best(query, k, limits) for query in queries]

    def _best(self, query: FloatArray, k: int, limits: Limits) -> list[Hit]:
        store = self._store
        condition = self._condition(store, limits)

        def ask(limit: int) -> list[Found]:
            return store.nearest(Nearest(query, limit, ("row", *records.SHOWN), condition, self._options))

        return self._hits([(found.payload, found.score) for found in first_by_score(ask, k)], "dense")

    def _by_words(self, text: str, k: int, limits: Limits) -> list[Hit]:
        store = self._store
        condition = self._condition(store, limits)
        terms = self._tokenizer.query(text)
        mean0 = (Meta.of(store) or self._meta).mean0
        if not terms or mean0 is None:
            return []
        best = best_by_words(store, terms, k, condition, mean0)
        payloads = {found.id: found.payload for found in store.retrieve([one.id for one, _ in best], records.SHOWN)}
        return self._hits([(payloads[one.id], score) for one, score in best if one.id in payloads], "lexical")

    def verify(self) -> VerifyReport:
        return verify(self._store, self._meta, self._pictures, self._tokenizer)

    def compact(self) -> int:
        """Let the engine rebuild what has many deleted points, build its graph, and index numbers for ranges.

        Returns 0: Qdrant drops vectors when it sees fit, and does not say how many. A server does all of it by itself.
        """
        with self._writing:
            store = self._writable_store()
            used: set[str] = set()
            for page in all_found(store, _PAGE, ("row", "item")):
                used.update(name for found in page for name in codec.asset_names(found.payload["item"]))
            self._pictures.keep_only(used)
            self._index_numbers(store)
            store.optimise()
        return 0

    def close(self) -> None:
        """Give back the place and the right to write; a second call does nothing."""
        with self._writing:
            if not self._closed:
                self._closed = True
                self._release()

    @property
    def _store(self) -> Store:
        if self._closed:
            raise CollectionError(f"the collection {self._opened.place} is closed: open it again")
        return self._opened

    def _writable_store(self) -> Store:
        store = self._store
        if not self._writable:
            raise CollectionError(f'{store.place} is open for reading only: open it with mode="write"')
        return store

    def _upsert(
        self,
        store: Store,
        documents: Sequence[Document],
        matrix: FloatArray | Sequence[FloatArray],
        digests: Sequence[str | None],
    ) -> None:
        row = max(self._last_row + 1, time.time_ns() // 1000)  # the clock may go back, and others may write too
        rows = range(row, row + len(documents))
        encoded = [codec.encode(*one) for one in zip(rows, documents, digests, strict=True)]
        pictures = (image.data for document in documents for image in document.content.images)
        self._pictures.put(data for data in pictures if data is not None)
        meta = Meta.of(store) or self._meta
        points, mean0 = records.to_points(encoded, matrix, self._tokenizer, meta.mean0)
        self._meta = meta.after(now(), mean0)
        store.upsert([*points, self._meta.point()])
        self._last_row = rows[-1]
        self._stored += len(points)
        self._numbers |= {f"nums.{key}" for point in points for key in point.payload["nums"]}
        self._numbers -= self._settled
        if self._numbers and self._stored >= _INDEX_FROM:
            self._index_numbers(store)

    def _index_numbers(self, store: Store) -> None:
        """Give fields with numbers an index, so that ranges need not read documents; small collections do without."""
        if not self._numbers:
            return
        indexed = store.indexed()
        room = _MOST_INDEXES - len(indexed)
        for key in sorted(self._numbers - indexed)[: max(0, room)]:
            store.add_index(key, "float")
        self._settled |= self._numbers
        self._numbers.clear()

    def _together(self, vectors: list[FloatArray]) -> FloatArray | Sequence[FloatArray]:
        return tuple(vectors) if self.encoder.multi_vector else np.stack(vectors)

    def _checked_query(self, vector: FloatArray) -> FloatArray:
        check = check_token_query if self.encoder.multi_vector else check_query
        return check(vector, self.encoder.dim)

    def _retrieve(self, ids: Sequence[str], fields: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """Payloads by document id, in the order asked for."""
        places = {point_id(name): name for name in ids if _is_text(name)}
        found = {places[one.id]: one.payload for one in self._store.retrieve(list(places), fields)}
        return {name: found[name] for name in places.values() if name in found}

    def _condition(self, store: Store, limits: Limits) -> Mapping[str, Any] | None:
        def read(where: Condition, field: str) -> Iterator[tuple[str, Any]]:
            return read_field(store, where, field)

        return restrict(limits.candidates, limits.exclude, limits.filter, read)

    def _hits(self, best: Sequence[tuple[Mapping[str, Any], float]], kind: str) -> list[Hit]:
        hits = []
        for rank, (payload, score) in enumerate(best, start=1):
            document = records.to_document(payload, self._pictures)
            hits.append(Hit(rank, document.id, score, {kind: score}, document))
        return hits


def _and(*conditions: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"must": list(conditions)}


def _is_text(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)
