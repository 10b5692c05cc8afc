"""What the rooms owe each other. A room implements these; `pipeline` joins them."""

from __future__ import annotations

from collections.abc import Collection as Container
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

from mmseek._stored import StoredBatch
from mmseek._types import (
    Content,
    Document,
    Encoded,
    EncodeRequest,
    EncoderIdentity,
    Hit,
    Pair,
    RerankerIdentity,
    Scored,
    Sent,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmseek._types import FloatArray

    RowArray: TypeAlias = NDArray[np.int64]

ScoreScale: TypeAlias = Literal["unit", "logit"]


@runtime_checkable
class Encoder(Protocol):
    """Content -> vectors: float32, shape (n, dim), L2-normalised, in the order of the input."""

    @property
    def identity(self) -> EncoderIdentity:
        """Spec, dimension and the fingerprint: a hash of weights and recipe. Equal fingerprints mean equal vectors."""
        ...

    def encode_query(self, contents: Sequence[Content], instruction: str | None = None) -> FloatArray:
        """Encode the query side.

        Raises:
            MmseekError: the first item that cannot be encoded, named by its position.
        """
        ...

    def encode_document(self, contents: Sequence[Content]) -> FloatArray:
        """Encode the document side; errors as in `encode_query`."""
        ...

    def stream(self, requests: Iterable[EncodeRequest]) -> Iterator[Encoded]:
        """Encode any number of requests in bounded memory: one outcome each, in input order; a bad one fails alone."""
        ...


@runtime_checkable
class MultiVectorEncoder(Protocol):
    """Content -> a vector for each of its tokens: float32 (tokens, dim) an item, each row L2-normalised.

    Two items are compared by MaxSim: for each vector of the query the largest inner product with one of the document,
    summed (Khattab and Zaharia 2020, arXiv:2004.12832). The methods have other names than an `Encoder`'s, so that what
    wants one vector an item can never be handed many by mistake.
    """

    @property
    def identity(self) -> EncoderIdentity:
        """Spec, the dimension of each vector, and the fingerprint, as of an `Encoder`."""
        ...

    def encode_query_tokens(self, contents: Sequence[Content], instruction: str | None = None) -> list[FloatArray]:
        """Encode the query side: one array (tokens, dim) a content.

        Raises:
            MmseekError: the first item that cannot be encoded, named by its position.
        """
        ...

    def encode_document_tokens(self, contents: Sequence[Content]) -> list[FloatArray]:
        """Encode the document side; errors as in `encode_query_tokens`."""
        ...

    def stream_tokens(self, requests: Iterable[EncodeRequest]) -> Iterator[Encoded]:
        """Encode any number of requests in bounded memory: one outcome each, in input order; a bad one fails alone."""
        ...


@runtime_checkable
class Reranker(Protocol):
    """(query, document) -> score: float32, higher is better, independent of the batch and of the order."""

    @property
    def identity(self) -> RerankerIdentity:
        """Spec and fingerprint."""
        ...

    def score(self, query: Content, documents: Sequence[Content], instruction: str | None = None) -> FloatArray:
        """One score a document (n,), in their order, whatever parts a document has.

        Raises:
            MmseekError: the first document that cannot be scored, named by its position.
        """
        ...

    def stream(self, pairs: Iterable[Pair]) -> Iterator[Scored]:
        """Score any number of pairs in bounded memory: one outcome each, in input order; a bad one fails alone."""
        ...


@runtime_checkable
class Explaining(Protocol):
    """A reranker that tells what its model reads of a pair."""

    def sent(self, pair: Pair) -> Sent:
        """Prompt and sizes.

        Raises:
            MmseekError: the pair cannot be scored.
        """
        ...


@runtime_checkable
class Reading(Protocol):
    """An encoder, or a family's recipe, that tells what its model reads of a content."""

    def reads(self, request: EncodeRequest) -> Sent:
        """Prompt and sizes.

        Raises:
            MmseekError: the content cannot be encoded.
        """
        ...


@runtime_checkable
class Scaled(Protocol):
    """A reranker that tells on which scale its scores are."""

    @property
    def scale(self) -> ScoreScale | None:
        """`unit`: from 0 to 1. `logit`: the logistic function of it is. None: neither."""
        ...


@runtime_checkable
class VectorIndex(Protocol):
    """Nearest neighbours by inner product over rows that carry int64 numbers. Derived: always rebuildable."""

    @property
    def dim(self) -> int: ...

    def __len__(self) -> int: ...

    def add(self, rows: RowArray, vectors: FloatArray) -> None:
        """Add vectors (n, dim) under new row numbers (n,)."""
        ...

    def remove(self, rows: RowArray) -> None:
        """Forget these rows; unknown ones are ignored."""
        ...

    def search(
        self, queries: FloatArray, k: int, *, allowed: RowArray | None = None, excluded: RowArray | None = None
    ) -> tuple[RowArray, FloatArray]:
        """Best k rows and their scores, both (n, k), best first; padded with row -1 and score -inf.

        Equal scores are ordered by row number. `allowed` restricts to some rows, `excluded` leaves some out.
        """
        ...


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """The vector index of a collection.

    Args:
        kind: `exact`, `hnsw`, `ivf-pq` ...
        wanted: what was asked for: a kind, or `auto`.
        settings: how it is built and searched, in words.
        recall: recall@10 as it was measured; None if it was not.
        measured_on: with `queries` or with `documents`; empty for an exact index.
        bytes_per_vector: what the index takes for each vector, row numbers and places included.
        rows: vectors in it.
        waiting: vectors that came since and are searched exactly beside it.
    """

    kind: str
    wanted: str
    settings: str
    recall: float | None
    measured_on: str
    bytes_per_vector: float
    rows: int
    waiting: int


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """What `mmseek info` shows. `bytes` counts everything on disk; times are ISO 8601 in UTC.

    `tokens` counts the vectors of a multi-vector collection, and is None of another.
    """

    location: str
    format_version: int
    encoder: EncoderIdentity
    documents: int
    modalities: Mapping[str, int]
    bytes: int
    created_at: str
    updated_at: str
    index: IndexInfo | None = None
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `mmseek verify` found: the collection is sound if there are no problems."""

    documents: int
    vectors: int
    problems: tuple[str, ...] = field(default=())

    @property
    def ok(self) -> bool:
        return not self.problems


@dataclass(frozen=True, slots=True)
class DocumentPage:
    """Some documents of a list, and after which place it goes on; None at its end."""

    documents: tuple[Document, ...]
    next: int | None


@runtime_checkable
class Listing(Protocol):
    """A collection that is read a page at a time, and whose filters count and delete."""

    def page(self, limit: int, after: int = 0, filter: str | None = None) -> DocumentPage:  # noqa: A002
        """At most `limit` documents in the order of storing, from behind a place that an earlier page named.

        Raises:
            InputError: the limit is below 1 or above 10,000, or the filter is none.
        """
        ...

    def count_where(self, filter: str) -> int:  # noqa: A002
        """How many documents a filter holds for.

        Raises:
            InputError: it is no filter.
        """
        ...

    def delete_where(self, filter: str) -> int:  # noqa: A002
        """Remove the documents that a filter holds for; returns how many there were.

        Raises:
            InputError: it is no filter; nothing was removed.
        """
        ...


@runtime_checkable
class Collection(Protocol):
    """Documents and vectors of one encoder. What a call acknowledged by returning survives any crash.

    A document has one vector (dim,), or in a multi-vector collection an array (tokens, dim); then a query has one too
    and scores are MaxSim. Which it is, `info().encoder.multi_vector` says.
    """

    def info(self) -> CollectionInfo: ...

    def upsert(
        self,
        documents: Sequence[Document],
        vectors: FloatArray | Sequence[FloatArray],
        digests: Sequence[str | None] | None = None,
    ) -> None:
        """Store documents with their vectors (n, dim), replacing those of equal id. Durable, all or nothing, on return.

        A multi-vector collection takes an array (tokens, dim) a document, and keeps it as float16.

        `digests` are the hashes of what was encoded, kept so that an unchanged document is not encoded twice.
        A server takes a large call in several requests; it returns when all of them are stored, and after an error
        the same call may be made again.

        Raises:
            InputError: shapes disagree, or a vector holds NaN or infinity; nothing was stored.
            StorageError: the disk is full or read-only; nothing of this call was stored.
        """
        ...

    def delete(self, ids: Container[str]) -> int:
        """Remove documents by id; returns how many there were."""
        ...

    def get(self, ids: Sequence[str]) -> dict[str, Document]:
        """The documents of these ids; unknown ids are left out."""
        ...

    def digests(self, ids: Sequence[str]) -> dict[str, str]:
        """The stored digests of these ids; ids that are unknown or have none are left out."""
        ...

    def documents(self) -> Iterator[Document]:
        """All documents, in the order in which they were stored."""
        ...

    def export(self, batch: int = 256) -> Iterator[StoredBatch]:
        """All documents with their vectors, at most `batch` at a time, in the order in which they were stored.

        What one iteration gives is one state of the collection, and pictures that the collection keeps come as bytes,
        so another collection of the same encoder can take the batches as they are.

        Raises:
            InputError: `batch` is below 1.
        """
        ...

    def vectors(self, ids: Sequence[str]) -> dict[str, FloatArray]:
        """The stored vectors, (dim,) or (tokens, dim), of these ids; unknown ids are left out."""
        ...

    def search(
        self,
        vector: FloatArray,
        k: int,
        *,
        exclude: Container[str] = (),
        candidates: Container[str] | None = None,
        filter: str | None = None,  # noqa: A002  # the word that Query and the other surfaces use
    ) -> list[Hit]:
        """The k nearest documents of a vector, (dim,) or (tokens, dim), best first, seen as one consistent state.

        `filter` is a condition on metadata, as in `mmseek.filters`: only documents that it holds for are ranked.

        Raises:
            InputError: the vector is none of this collection's, k is below 1, or the filter is none.
        """
        ...

    def search_many(
        self,
        vectors: FloatArray | Sequence[FloatArray],
        k: int,
        *,
        exclude: Container[str] = (),
        candidates: Container[str] | None = None,
        filter: str | None = None,  # noqa: A002  # the word that Query and the other surfaces use
    ) -> list[list[Hit]]:
        """What `search` gives for each of some vectors, (n, dim) or arrays (tokens, dim); in a folder, of one state.

        Raises:
            InputError: as in `search`.
        """
        ...

    def search_text(
        self,
        text: str,
        k: int,
        *,
        exclude: Container[str] = (),
        candidates: Container[str] | None = None,
        filter: str | None = None,  # noqa: A002  # the word that Query and the other surfaces use
    ) -> list[Hit]:
        """The k best documents for the words of a text, by BM25 over texts and the strings in metadata.

        Only documents with at least one of the words are found. No text is ever read as query syntax.

        Raises:
            InputError: as in `search`.
        """
        ...

    def verify(self) -> VerifyReport:
        """Read everything and compare checksums, ledger and vectors; changes nothing."""
        ...

    def compact(self) -> int:
        """Give the space of replaced and deleted documents back; returns how many vectors were dropped.

        Raises:
            CorruptCollection: vectors do not have their checksums; they are left as they are.
            StorageError: the disk is full or failing; nothing has changed.
        """
        ...

    def close(self) -> None: ...
