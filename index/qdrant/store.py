"""What the collection asks of Qdrant, however it is reached: plain values in and out, filters as Qdrant's JSON."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from mmseek._types import FloatArray

DENSE, WORDS = "dense", "words"  # the two named vectors of a document
META_ID = str(uuid.UUID(int=0))  # the point that says what the collection is; it has no vector and no row

Condition: TypeAlias = Mapping[str, Any]
"""A filter or one of its conditions, as Qdrant's REST API writes it."""
IndexKind: TypeAlias = Literal["keyword", "integer", "float"]

DOCUMENTS: Condition = {"key": "row", "range": {"gte": 0}}
# What must have an index: filters, words, the order of storing, and the mean length are asked of all documents.
INDEXES: Mapping[str, IndexKind] = {"row": "integer", "facts": "keyword", "terms": "keyword", "length": "integer"}


def point_id(name: str) -> str:
    """The point of a document's id. Equal ids are one point, so storing twice leaves one."""
    return str(uuid.UUID(bytes=hashlib.blake2b(name.encode(), digest_size=16).digest()))


@dataclass(frozen=True, slots=True)
class Sparse:
    """A sparse vector: dimensions below 2**32, each once, and their values."""

    indices: list[int]
    values: list[float]


@dataclass(frozen=True, slots=True)
class Point:
    """What is stored under one id; a point without vectors is only found by its id.

    `dense` is (dim,), or of a multi-vector collection (tokens, dim).
    """

    id: str
    payload: Mapping[str, Any]
    dense: FloatArray | None = None
    words: Sparse | None = None


def weight(point: Point) -> int:
    """About how many bytes a point takes in a request."""
    numbers = 0 if point.dense is None else point.dense.size
    words = 0 if point.words is None else 2 * len(point.words.indices)
    texts = sum(len(value) for value in point.payload.values() if isinstance(value, str | list))
    return 12 * numbers + 12 * words + 4 * texts + 200


@dataclass(frozen=True, slots=True)
class Found:
    """A stored point as it was asked for; `score` is that of a search."""

    id: str
    payload: Mapping[str, Any]
    dense: FloatArray | None = None
    score: float = 0.0


@dataclass(frozen=True, slots=True)
class Options:
    """How a collection is made and searched; each is named as in Qdrant.

    Args:
        shard_number: shards of a new collection on a cluster.
        replication_factor: copies of each shard. A write is acknowledged by more than half of them.
        quantization: `int8` or `binary`: searched in small vectors, ranked by the full ones.
        on_disk: full vectors on the disk, not in memory.
        on_disk_payload: documents on the disk, not in memory.
        exact: compare a query with every vector, not with those that the graph leads to.
        hnsw_ef: how wide the graph is searched; 0 leaves it to us.
        timeout: seconds that one request may take.
    """

    shard_number: int = 1
    replication_factor: int = 1
    quantization: str = ""
    on_disk: bool = False
    on_disk_payload: bool = True
    exact: bool = False
    hnsw_ef: int = 0
    timeout: int = 60


@dataclass(frozen=True, slots=True)
class Nearest:
    """A search by one of the two vectors."""

    vector: FloatArray | Sparse
    limit: int
    fields: Sequence[str]
    condition: Condition | None = None
    options: Options = field(default_factory=Options)

    @property
    def ef(self) -> int:
        return self.options.hnsw_ef or max(128, 2 * self.limit)


class Store(Protocol):
    """One collection of a Qdrant. Every call is answered whole or raises; what changes is durable on return.

    Raises:
        StorageError: it cannot be reached or does not answer, or the disk is full.
        CollectionError: it refuses the request or the key.
    """

    @property
    def place(self) -> str:
        """Where it is, as people write it; without secrets."""
        ...

    def exists(self) -> bool: ...

    def create(self, dim: int, options: Options, *, multi_vector: bool = False) -> None:
        """Make an empty collection with the two vectors and the indexes.

        `multi_vector`: a document's `dense` is many vectors, compared by MaxSim and kept as float16.
        """
        ...

    def finish(self) -> None:
        """All that makes a new collection is stored: from now on it exists."""
        ...

    def upsert(self, points: Sequence[Point]) -> None: ...

    def delete(self, ids: Sequence[str]) -> None: ...

    def retrieve(self, ids: Sequence[str], fields: Sequence[str] | None = None) -> list[Found]:
        """Those of the points that there are, with some fields of the payload or all."""
        ...

    def page(
        self,
        condition: Condition,
        limit: int,
        fields: Sequence[str],
        *,
        vectors: bool = False,
        last_first: bool = False,
    ) -> list[Found]:
        """Documents in the order of their rows."""
        ...

    def nearest(self, asked: Nearest) -> list[Found]: ...

    def count(self, condition: Condition) -> int: ...

    def lengths(self) -> dict[int, int]:
        """How many documents there are of each length in words."""
        ...

    def add_index(self, key: str, kind: IndexKind) -> None: ...

    def indexed(self) -> set[str]: ...

    def optimise(self) -> None: ...

    def bytes(self, dim: int) -> int:
        """What the collection takes on the disk, or, of a server, what its vectors take at least."""
        ...

    def close(self) -> None: ...
