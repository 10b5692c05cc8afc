"""A server, a cluster, or qdrant-client's imitation of one in memory: all through qdrant-client."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any, TypeVar

import httpx
import numpy as np
from qdrant_client import QdrantClient, models

from mmseek.errors import CollectionExists
from mmseek.index.qdrant.location import Place
from mmseek.index.qdrant.retry import DEFAULT_POLICY, RetryPolicy, ask
from mmseek.index.qdrant.store import (
    DENSE,
    INDEXES,
    WORDS,
    Condition,
    Found,
    IndexKind,
    Nearest,
    Options,
    Point,
    Sparse,
    weight,
)

Answer = TypeVar("Answer")

_BATCH_BYTES = 8 * 1024**2  # servers take 32 MiB unless told otherwise
_BATCH_POINTS = 256
_READ_AT_ONCE = 1000
_EVERY_LENGTH = 1_000_000


class ClientStore:
    """Qdrant over qdrant-client.

    Each request waits until the server has carried it out, so that a slow server slows the writer down.

    Args:
        client: of a server, or of the memory of this process.
        place: where it is.
        policy: how failures are met.
    """

    def __init__(self, client: QdrantClient, place: Place, policy: RetryPolicy = DEFAULT_POLICY) -> None:
        self._client = client
        self._place = place
        self._policy = policy
        # The imitation in memory knows nothing of threads.
        self._one: AbstractContextManager[Any] = threading.RLock() if place.kind == "memory" else nullcontext()

    @property
    def place(self) -> str:
        return str(self._place)

    @property
    def name(self) -> str:
        return self._place.name

    @cached_property
    def _consistency(self) -> models.ReadConsistencyType | None:
        """Which copies of a shard are asked: where there are several, all, and what most of them hold is the answer."""
        if self._place.kind == "memory":
            return None
        described = self._ask(lambda: self._client.get_collection(self.name))
        copies = described.config.params.replication_factor or 1
        return models.ReadConsistencyType.QUORUM if copies > 1 else None

    def exists(self) -> bool:
        return bool(self._ask(lambda: self._client.collection_exists(self.name)))

    def create(self, dim: int, options: Options, *, multi_vector: bool = False) -> None:
        if self.exists():
            return  # begun before, by a writer that was stopped: it has no description yet, and no documents
        copies = options.replication_factor
        try:
            self._ask(
                lambda: self._client.create_collection(
                    self.name,
                    vectors_config={DENSE: _vector_params(dim, options, multi_vector=multi_vector)},
                    sparse_vectors_config={WORDS: models.SparseVectorParams()},
                    shard_number=options.shard_number,
                    replication_factor=copies,
                    write_consistency_factor=copies // 2 + 1,
                    on_disk_payload=options.on_disk_payload,
                )
            )
        except CollectionExists:
            raise
        except Exception:
            if not self.exists():  # or else the answer to an attempt that succeeded was lost
                raise
        for key, kind in INDEXES.items():
            self.add_index(key, kind)

    def finish(self) -> None:
        """The description is a point like any other."""

    def upsert(self, points: Sequence[Point]) -> None:
        for batch in _batches(points):
            structs = [_struct(point) for point in batch]
            self._ask(lambda structs=structs: self._client.upsert(self.name, structs, wait=True))  # type: ignore[misc]

    def delete(self, ids: Sequence[str]) -> None:
        for some in _slices(ids):
            chosen = models.PointIdsList(points=list(some))
            self._ask(lambda chosen=chosen: self._client.delete(self.name, chosen, wait=True))  # type: ignore[misc]

    def retrieve(self, ids: Sequence[str], fields: Sequence[str] | None = None) -> list[Found]:
        shown: bool | list[str] = True if fields is None else list(fields)
        how = self._consistency
        found: list[Found] = []
        for some in _slices(ids):
            records = self._ask(
                lambda some=some: self._client.retrieve(  # type: ignore[misc]
                    self.name, list(some), with_payload=shown, consistency=how
                )
            )
            found += [Found(str(record.id), record.payload or {}) for record in records]
        return found

    def page(
        self,
        condition: Condition,
        limit: int,
        fields: Sequence[str],
        *,
        vectors: bool = False,
        last_first: bool = False,
    ) -> list[Found]:
        order = models.OrderBy(key="row", direction=models.Direction.DESC if last_first else models.Direction.ASC)
        how = self._consistency
        records, _ = self._ask(
            lambda: self._client.scroll(
                self.name,
                scroll_filter=_filter(condition),
                limit=limit,
                order_by=order,
                with_payload=list(fields),
                with_vectors=[DENSE] if vectors else False,
                consistency=how,
            )
        )
        return [Found(str(one.id), one.payload or {}, _dense(one.vector)) for one in records]

    def nearest(self, asked: Nearest) -> list[Found]:
        vector = asked.vector
        query: Any
        using, params = DENSE, None if self._place.kind == "memory" else _search_params(asked)
        if isinstance(vector, Sparse):
            query = models.SparseVector(indices=vector.indices, values=vector.values)
            using, params = WORDS, None
        else:
            query = vector.tolist()
        how = self._consistency
        answer = self._ask(
            lambda: self._client.query_points(
                self.name,
                query=query,
                using=using,
                query_filter=None if asked.condition is None else _filter(asked.condition),
                limit=asked.limit,
                with_payload=list(asked.fields),
                search_params=params,
                consistency=how,
            )
        )
        return [Found(str(one.id), one.payload or {}, score=one.score) for one in answer.points]

    def count(self, condition: Condition) -> int:
        chosen = _filter(condition)
        return int(self._ask(lambda: self._client.count(self.name, count_filter=chosen, exact=True)).count)

    def lengths(self) -> dict[int, int]:
        how = self._consistency
        answer = self._ask(
            lambda: self._client.facet(self.name, "length", limit=_EVERY_LENGTH, exact=True, consistency=how)
        )
        return {int(hit.value): hit.count for hit in answer.hits}

    def add_index(self, key: str, kind: IndexKind) -> None:
        if self._place.kind == "memory":
            return  # it has none, and says so in a warning
        schema = models.PayloadSchemaType(kind)
        self._ask(lambda: self._client.create_payload_index(self.name, key, field_schema=schema, wait=True))

    def indexed(self) -> set[str]:
        return set(self._ask(lambda: self._client.get_collection(self.name)).payload_schema or {})

    def optimise(self) -> None:
        """A server optimises by itself."""

    def bytes(self, dim: int) -> int:
        count: int = self._ask(lambda: self._client.count(self.name, exact=True)).count
        return count * (4 * dim + 16)

    def close(self) -> None:
        if self._place.kind != "memory":
            self._client.close()

    def _ask(self, request: Callable[[], Answer]) -> Answer:
        with self._one:
            return ask(request, self.place, self._policy)


def connect(place: Place, api_key: str | None) -> QdrantClient:
    """A client of a server; nothing is sent yet. No proxy and no key is taken from the environment."""
    return QdrantClient(
        url=place.where,
        headers=None if api_key is None else {"api-key": api_key},
        timeout=place.options.timeout,
        check_compatibility=False,
        trust_env=False,
        limits=httpx.Limits(max_connections=8, max_keepalive_connections=8),
    )


def _vector_params(dim: int, options: Options, *, multi_vector: bool) -> models.VectorParams:
    quantization: models.ScalarQuantization | models.BinaryQuantization | None = None
    if options.quantization == "int8":
        scalar = models.ScalarQuantizationConfig(type=models.ScalarType.INT8, quantile=0.99, always_ram=True)
        quantization = models.ScalarQuantization(scalar=scalar)
    elif options.quantization == "binary":
        quantization = models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True))
    by_tokens = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    return models.VectorParams(
        size=dim,
        distance=models.Distance.DOT,
        on_disk=options.on_disk,
        quantization_config=quantization,
        multivector_config=by_tokens if multi_vector else None,
        datatype=models.Datatype.FLOAT16 if multi_vector else None,
    )


def _search_params(asked: Nearest) -> models.SearchParams:
    quantized = models.QuantizationSearchParams(rescore=True, oversampling=3.0) if asked.options.quantization else None
    return models.SearchParams(exact=asked.options.exact, hnsw_ef=asked.ef, quantization=quantized)


def _filter(condition: Condition) -> models.Filter:
    whole = condition if condition.keys() <= {"must", "should", "must_not"} else {"must": [condition]}
    return models.Filter.model_validate(dict(whole))


def _struct(point: Point) -> models.PointStruct:
    vector: dict[str, Any] = {}
    if point.dense is not None:
        vector[DENSE] = point.dense.tolist()
    if point.words is not None and point.words.indices:
        vector[WORDS] = models.SparseVector(indices=point.words.indices, values=point.words.values)
    return models.PointStruct(id=point.id, vector=vector, payload=dict(point.payload))


def _dense(vector: Any) -> Any:
    return None if not vector else np.asarray(vector[DENSE], dtype=np.float32)


def _batches(points: Sequence[Point]) -> Iterator[list[Point]]:
    """Pieces that a server takes in one request; a piece of a picture is larger than any."""
    batch: list[Point] = []
    size = 0
    for point in points:
        size_of_one = weight(point)
        if batch and (size + size_of_one > _BATCH_BYTES or len(batch) == _BATCH_POINTS):
            yield batch
            batch, size = [], 0
        batch.append(point)
        size += size_of_one
    if batch:
        yield batch


def _slices(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for low in range(0, len(ids), _READ_AT_ONCE):
        yield ids[low : low + _READ_AT_ONCE]
