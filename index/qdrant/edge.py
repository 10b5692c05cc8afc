"""Qdrant's engine in this process, over a folder: `qdrant_edge`.

`qdrant-edge.json` is written last and says that the collection exists; `shard/` is the engine's, with its own log of
changes. One change is one record of that log: after a crash it is there whole or not at all. `flush` makes it durable.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as engine

from mmseek.errors import CorruptCollection, StorageError
from mmseek.index.durable import make_folder, replace_file, storage_errors
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

MARK = "qdrant-edge.json"
SHARD = "shard"
_FORMAT = {"format": "mmseek-qdrant-edge", "format_version": 1}
_EVERY_LENGTH = 1_000_000
_SPARE_BYTES = 96 * 1024**2  # the engine writes through memory maps, which a full disk would kill
_KINDS = {
    "keyword": engine.PayloadSchemaType.Keyword,
    "integer": engine.PayloadSchemaType.Integer,
    "float": engine.PayloadSchemaType.Float,
}


class EdgeStore:
    """One shard of Qdrant in a folder that this process holds the lock of."""

    def __init__(self, folder: Path, place: str) -> None:
        self._folder = folder
        self._place = place
        self._shard: engine.EdgeShard | None = None

    @property
    def place(self) -> str:
        return self._place

    def exists(self) -> bool:
        return (self._folder / MARK).exists()

    def create(self, dim: int, options: Options, *, multi_vector: bool = False) -> None:
        with storage_errors(self._folder):
            shutil.rmtree(self._folder / SHARD, ignore_errors=True)  # begun by a writer that was killed
            make_folder(self._folder / SHARD)
        config = engine.EdgeConfig(
            vectors={DENSE: _vector_params(dim, options, multi_vector=multi_vector)},
            sparse_vectors={WORDS: engine.EdgeSparseVectorParams()},
        )
        with self._errors("making it"):
            self._shard = engine.EdgeShard.create(str(self._folder / SHARD), config)
        for key, kind in INDEXES.items():
            self.add_index(key, kind)

    def finish(self) -> None:
        with storage_errors(self._folder):
            replace_file(self._folder / MARK, (json.dumps(_FORMAT) + "\n").encode())

    def upsert(self, points: Sequence[Point]) -> None:
        self._check_room(points)
        self._update(engine.UpdateOperation.upsert_points([_point(point) for point in points]))

    def delete(self, ids: Sequence[str]) -> None:
        self._update(engine.UpdateOperation.delete_points(list(ids)))

    def retrieve(self, ids: Sequence[str], fields: Sequence[str] | None = None) -> list[Found]:
        shown: Any = True if fields is None else list(fields)
        with self._errors("reading") as shard:
            records = shard.retrieve(list(ids), with_payload=shown, with_vector=False)
        return [Found(str(record.id), record.payload or {}) for record in records]

    def page(
        self,
        condition: Condition,
        limit: int,
        fields: Sequence[str],
        *,
        vectors: bool = False,
        last_first: bool = False,
    ) -> list[Found]:
        request = engine.ScrollRequest(
            limit=limit,
            filter=_filter(condition),
            with_payload=list(fields),
            with_vector=[DENSE] if vectors else False,
            order_by=engine.OrderBy("row", engine.Direction.Desc if last_first else engine.Direction.Asc),
        )
        with self._errors("reading") as shard:
            records, _ = shard.scroll(request)
        return [Found(str(one.id), one.payload or {}, _dense(one.vector)) for one in records]

    def nearest(self, asked: Nearest) -> list[Found]:
        vector = asked.vector
        if isinstance(vector, Sparse):
            query = engine.Query.Nearest(engine.SparseVector(vector.indices, vector.values), using=WORDS)
        else:
            query = engine.Query.Nearest(vector.tolist(), using=DENSE)
        request = engine.QueryRequest(
            limit=asked.limit,
            query=query,
            filter=None if asked.condition is None else _filter(asked.condition),
            with_payload=list(asked.fields),
            params=None if isinstance(vector, Sparse) else _search_params(asked),
        )
        with self._errors("searching") as shard:
            found = shard.query(request)
        return [Found(str(one.id), one.payload or {}, score=one.score) for one in found]

    def count(self, condition: Condition) -> int:
        with self._errors("reading") as shard:
            return int(shard.count(engine.CountRequest(exact=True, filter=_filter(condition))))

    def lengths(self) -> dict[int, int]:
        with self._errors("reading") as shard:
            answer = shard.facet(engine.FacetRequest("length", limit=_EVERY_LENGTH, exact=True))
        return {int(hit.value): hit.count for hit in answer.hits}

    def add_index(self, key: str, kind: IndexKind) -> None:
        with self._errors("writing") as shard:
            shard.update(engine.UpdateOperation.create_field_index(key, _KINDS[kind]))

    def indexed(self) -> set[str]:
        with self._errors("reading") as shard:
            return set(shard.info().payload_schema)

    def optimise(self) -> None:
        with self._errors("optimising") as shard:
            shard.optimize()
            shard.flush()

    def bytes(self, dim: int) -> int:  # noqa: ARG002  # the folder tells
        total = 0
        for path in self._folder.rglob("*"):
            try:
                total += path.stat().st_blocks * 512 if path.is_file() else 0  # the engine's files have holes
            except FileNotFoundError:
                continue  # the engine's temporary file
        return total

    def close(self) -> None:
        if self._shard is not None:
            with self._errors("closing") as shard:
                shard.flush()
                shard.close()
            self._shard = None

    def _update(self, operation: engine.UpdateOperation) -> None:
        with self._errors("writing") as shard:
            shard.update(operation)
            shard.flush()

    def _check_room(self, points: Sequence[Point]) -> None:
        size = sum(weight(point) for point in points)
        free = shutil.disk_usage(self._folder).free
        if free < 2 * size + _SPARE_BYTES:
            raise StorageError(
                f"{self._place}: the disk is full, so nothing of this call was stored: free some space and run it again"
            )

    @contextmanager
    def _errors(self, doing: str) -> Iterator[engine.EdgeShard]:
        """The shard, opened at its first use; what the engine says in one sentence.

        The engine raises nothing but plain `Exception`, so that its own words decide.
        """
        try:
            if self._shard is None and doing != "making it":
                self._shard = engine.EdgeShard.load(str(self._folder / SHARD))
            yield self._shard
        except Exception as error:
            if type(error) is not Exception:
                raise
            raise _sentence(self._place, doing, str(error)) from error


def _sentence(place: str, doing: str, said: str) -> StorageError | CorruptCollection:
    said = " ".join(said.split())[:300]
    if "No space left" in said or "os error 28" in said:
        return StorageError(f"{place}: the disk is full: free some space and run it again")
    if doing == "reading" and any(word in said.lower() for word in ("failed to open", "failed to load", "corrupt")):
        return CorruptCollection(f"{place} is damaged ({said}): restore it from a backup, or index again elsewhere")
    return StorageError(f"{place}: {doing} failed ({said}): check the disk and run it again")


def _vector_params(dim: int, options: Options, *, multi_vector: bool) -> engine.EdgeVectorParams:
    quantization: Any = None
    if options.quantization == "int8":
        quantization = engine.ScalarQuantizationConfig(engine.ScalarType.Int8, quantile=0.99)
    elif options.quantization == "binary":
        quantization = engine.BinaryQuantizationConfig()
    memory = engine.Memory.Cold if options.on_disk else engine.Memory.Cached
    return engine.EdgeVectorParams(
        size=dim,
        distance=engine.Distance.Dot,
        quantization_config=quantization,
        memory=memory,
        multivector_config=engine.MultiVectorConfig(engine.MultiVectorComparator.MaxSim) if multi_vector else None,
        datatype=engine.VectorStorageDatatype.Float16 if multi_vector else None,
    )


def _search_params(asked: Nearest) -> engine.SearchParams:
    quantized = engine.QuantizationSearchParams(rescore=True, oversampling=3.0) if asked.options.quantization else None
    return engine.SearchParams(exact=asked.options.exact, hnsw_ef=asked.ef, quantization=quantized)


def _point(point: Point) -> engine.Point:
    vector: dict[str, Any] = {}
    if point.dense is not None:
        vector[DENSE] = point.dense.tolist()
    if point.words is not None and point.words.indices:
        vector[WORDS] = engine.SparseVector(point.words.indices, point.words.values)
    return engine.Point(point.id, vector, dict(point.payload))


def _dense(vector: Any) -> Any:
    return None if not vector else np.asarray(vector[DENSE], dtype=np.float32)


def _filter(condition: Condition) -> engine.Filter:
    whole = condition if condition.keys() <= {"must", "should", "must_not"} else {"must": [condition]}
    return engine.Filter(**{word: [_condition(part) for part in parts] for word, parts in whole.items()})


def _condition(condition: Condition) -> Any:
    if "has_id" in condition:
        return engine.HasIdCondition(set(condition["has_id"]))
    if "key" not in condition:
        return _filter(condition)
    if "range" in condition:
        return engine.FieldCondition(condition["key"], range=engine.RangeFloat(**_floats(condition["range"])))
    match: Mapping[str, Any] = condition["match"]
    return engine.FieldCondition(
        condition["key"],
        match=engine.MatchAny(match["any"]) if "any" in match else engine.MatchValue(match["value"]),
    )


def _floats(bounds: Mapping[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in bounds.items()}
