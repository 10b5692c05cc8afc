"""The engines of `ann_peers.py`, one a process: build, then search with more and more care.

Run by ann_peers.py:  python ann_engines.py ENGINE FOLDER [--busy]     FOLDER holds vectors.npy and queries.npy

With --busy, seconds are those that processors worked for the engine and its servers: for a machine with other work.
"""

# ruff: noqa: SLF001  # the sweep sets what `mmseek tune` would
from __future__ import annotations

import json
import os
import re
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

K = 10
LINKS, BUILD_EFFORT = 24, 80  # the same graph for all that have one
EFFORTS = (16, 32, 64, 128, 256, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192)
MORE_LINKS, MORE_EFFORT = 32, 300  # a graph that is built with more care
FILTER_SHARE = 10  # one row in so many passes the filter
BATCH = 5000
Clock = Callable[[], float]
PASSES, LONG = 3, 20.0  # over the queries, of which the quickest counts; seconds after which one is enough
ENOUGH = 0.998  # recall that is not raised any more


def memory() -> int:
    return int(re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024  # type: ignore[index]


RESCORE = {"hnsw": 4, "ivf-sq8": 2, "ivf-pq": 20}


class Engine:
    """Stores rows with a number `n` and a text, and finds the numbers of the best."""

    efforts: tuple[int, ...] = EFFORTS
    payload = True

    def __init__(self, folder: Path, dim: int) -> None:
        self.folder, self.dim = folder, dim

    def build(self, vectors: np.ndarray) -> None: ...
    def careful(self, effort: int) -> None: ...
    def search(self, query: np.ndarray) -> list[int]: ...
    def filtered(self, query: np.ndarray) -> list[int]: ...


class Mmseek(Engine):
    """The whole path: a consistent snapshot, the index, scores from full vectors, documents decoded."""

    kind = "hnsw"

    def build(self, vectors: np.ndarray) -> None:
        from mmseek import Content, Document, EncoderIdentity
        from mmseek.index import open_collection

        self.collection: Any = open_collection(
            self.folder / "c", mode="create", encoder=EncoderIdentity("mini", "f" * 64, self.dim)
        )
        for low in range(0, len(vectors), BATCH):
            numbers = range(low, min(low + BATCH, len(vectors)))
            documents = [
                Document(f"d{n}", Content.of(f"text of row {n}"), {"n": n, "part": n % FILTER_SHARE}) for n in numbers
            ]
            self.collection.upsert(documents, vectors[low : low + BATCH])
        self.collection.ann.tune(self.kind, recall=0.9, queries=np.load(self.folder.parent / "tuning.npy"))
        self.collection.search(vectors[0], K)

    def careful(self, effort: int) -> None:
        from dataclasses import replace

        with self.collection._view.current() as (index, _):
            base = index.base
            kept = replace(base, plan=replace(base.plan, effort=effort, rescore=RESCORE[self.kind]))
            index._base = kept

    def search(self, query: np.ndarray) -> list[int]:
        return [int(hit.id[1:]) for hit in self.collection.search(query, K)]

    def filtered(self, query: np.ndarray) -> list[int]:
        return [int(hit.id[1:]) for hit in self.collection.search(query, K, filter="part == 3")]

    def bare(self, query: np.ndarray) -> list[int]:
        """The same path without documents: the snapshot and the index, rows for answers."""
        with self.collection._view.current() as (index, _):
            return [row - 1 for row in index.search(query[None], K)[0][0].tolist()]


class MmseekSq8(Mmseek):
    kind = "ivf-sq8"
    efforts = (8, 12, 16, 20, 24, 32, 48, 64, 72, 80, 96, 128, 192)


class MmseekIvf(Mmseek):
    kind = "ivf-pq"
    efforts = (8, 16, 32, 64, 96, 128, 192, 256)


class Hnswlib(Engine):
    payload = False
    links, care = LINKS, BUILD_EFFORT

    def build(self, vectors: np.ndarray) -> None:
        import hnswlib

        self.index = hnswlib.Index(space="ip", dim=self.dim)
        self.index.init_index(max_elements=len(vectors), M=self.links, ef_construction=self.care)
        self.index.set_num_threads(1)
        self.index.add_items(vectors)

    def careful(self, effort: int) -> None:
        self.index.set_ef(effort)

    def search(self, query: np.ndarray) -> list[int]:
        return self.index.knn_query(query, k=K)[0][0].tolist()


class HnswlibCareful(Hnswlib):
    links, care = MORE_LINKS, MORE_EFFORT


class Usearch(Engine):
    payload = False

    def build(self, vectors: np.ndarray) -> None:
        from usearch.index import Index

        self.index = Index(ndim=self.dim, metric="ip", connectivity=LINKS, expansion_add=BUILD_EFFORT)
        self.index.add(np.arange(len(vectors)), vectors, threads=1)

    def careful(self, effort: int) -> None:
        self.index.expansion_search = effort

    def search(self, query: np.ndarray) -> list[int]:
        return self.index.search(query, K, threads=1).keys.tolist()


class Faiss(Engine):
    payload = False

    def build(self, vectors: np.ndarray) -> None:
        import faiss

        faiss.omp_set_num_threads(1)
        self.index = faiss.IndexHNSWFlat(self.dim, LINKS, faiss.METRIC_INNER_PRODUCT)
        self.index.hnsw.efConstruction = BUILD_EFFORT
        self.index.add(vectors)

    def careful(self, effort: int) -> None:
        self.index.hnsw.efSearch = effort

    def search(self, query: np.ndarray) -> list[int]:
        return self.index.search(query[None], K)[1][0].tolist()


class FaissLists(Engine):
    """As many lists of full bytes as ours has, without scores from full vectors."""

    payload = False
    efforts = (8, 16, 24, 32, 48, 64, 72, 80, 96, 128, 192)

    def build(self, vectors: np.ndarray) -> None:
        import faiss

        faiss.omp_set_num_threads(1)
        self.index = faiss.index_factory(
            self.dim, f"IVF{round(2 * len(vectors) ** 0.5)},SQ8", faiss.METRIC_INNER_PRODUCT
        )
        self.index.train(vectors[np.random.default_rng(0).permutation(len(vectors))[: 64 * self.index.nlist]])
        self.index.add(vectors)

    def careful(self, effort: int) -> None:
        self.index.nprobe = effort

    def search(self, query: np.ndarray) -> list[int]:
        return self.index.search(query[None], K)[1][0].tolist()


class Lancedb(Engine):
    efforts = (8, 16, 32, 64, 128)

    def build(self, vectors: np.ndarray) -> None:
        import lancedb
        import pyarrow as pa

        def table() -> Any:
            number = np.arange(len(vectors))
            flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), self.dim)
            texts = [f"text of row {n}" for n in number]
            return pa.table({"n": number, "part": number % FILTER_SHARE, "text": texts, "vector": flat})

        self.table = lancedb.connect(str(self.folder / "lance")).create_table("t", table())
        self.table.create_index(metric="dot", num_partitions=max(1, int(len(vectors) ** 0.5)), num_sub_vectors=96)
        self.table.create_scalar_index("part")

    def careful(self, effort: int) -> None:
        self.effort = effort

    def _ask(self, query: np.ndarray) -> Any:
        asked = self.table.search(query).distance_type("dot").nprobes(self.effort).refine_factor(20)
        return asked.select(["n", "text"]).limit(K)

    def search(self, query: np.ndarray) -> list[int]:
        return [row["n"] for row in self._ask(query).to_list()]

    def filtered(self, query: np.ndarray) -> list[int]:
        return [row["n"] for row in self._ask(query).where("part = 3", prefilter=True).to_list()]


class Milvus(Engine):
    efforts = (64, 256, 1024, 4096)  # few, for it is slow

    def build(self, vectors: np.ndarray) -> None:
        from pymilvus import DataType, MilvusClient

        self.client = MilvusClient(str(self.folder / "milvus.db"))
        schema = self.client.create_schema(auto_id=False)
        for name, kind, more in (
            ("n", DataType.INT64, {"is_primary": True}),
            ("part", DataType.INT64, {}),
            ("text", DataType.VARCHAR, {"max_length": 64}),
            ("vector", DataType.FLOAT_VECTOR, {"dim": self.dim}),
        ):
            schema.add_field(name, kind, **more)
        parameters = self.client.prepare_index_params()
        parameters.add_index(
            "vector", index_type="HNSW", metric_type="IP", params={"M": LINKS, "efConstruction": BUILD_EFFORT}
        )
        self.client.create_collection("t", schema=schema, index_params=parameters)
        for low in range(0, len(vectors), 1000):
            rows = [
                {"n": n, "part": n % FILTER_SHARE, "text": f"text of row {n}", "vector": vectors[n]}
                for n in range(low, min(low + 1000, len(vectors)))
            ]
            self.client.insert("t", rows)

    def careful(self, effort: int) -> None:
        self.effort = effort

    def _ask(self, query: np.ndarray, condition: str) -> list[int]:
        parameters = {"metric_type": "IP", "params": {"ef": max(K, self.effort)}}
        found = self.client.search(
            "t", data=[query], limit=K, search_params=parameters, output_fields=["n", "text"], filter=condition
        )
        return [hit["entity"]["n"] for hit in found[0]]

    def search(self, query: np.ndarray) -> list[int]:
        return self._ask(query, "")

    def filtered(self, query: np.ndarray) -> list[int]:
        return self._ask(query, "part == 3")


class Qdrant(Engine):
    """qdrant-client's local mode: every vector is compared, in numpy."""

    efforts = (0,)

    def build(self, vectors: np.ndarray) -> None:
        from qdrant_client import QdrantClient, models

        self.models = models
        self.client = QdrantClient(":memory:")
        self.client.create_collection("t", models.VectorParams(size=self.dim, distance=models.Distance.DOT))
        for low in range(0, len(vectors), 1000):
            numbers = range(low, min(low + 1000, len(vectors)))
            points = [
                models.PointStruct(
                    id=n, vector=vectors[n].tolist(), payload={"n": n, "part": n % FILTER_SHARE, "text": f"row {n}"}
                )
                for n in numbers
            ]
            self.client.upsert("t", points)

    def search(self, query: np.ndarray) -> list[int]:
        return [point.id for point in self.client.query_points("t", query.tolist(), limit=K).points]

    def filtered(self, query: np.ndarray) -> list[int]:
        condition = self.models.FieldCondition(key="part", match=self.models.MatchValue(value=3))
        chosen = self.models.Filter(must=[condition])
        return [
            point.id for point in self.client.query_points("t", query.tolist(), query_filter=chosen, limit=K).points
        ]


ENGINES: dict[str, type[Engine]] = {
    "mmseek-ivf-sq8": MmseekSq8,
    "hnswlib": Hnswlib,
    "usearch": Usearch,
    "lancedb": Lancedb,
    "milvus-lite": Milvus,
    "faiss-hnsw": Faiss,
    "faiss-ivf-sq8": FaissLists,
    "hnswlib, more links": HnswlibCareful,
    "mmseek-hnsw": Mmseek,
    "mmseek-ivf-pq": MmseekIvf,
    "qdrant-client local": Qdrant,
}


def processor_seconds() -> float:
    """Of this process, of those that it waited for, and of the servers that it has started."""
    waited = resource.getrusage(resource.RUSAGE_CHILDREN)
    total, processes = time.process_time() + waited.ru_utime + waited.ru_stime, [os.getpid()]
    for process in processes:
        for thread in Path(f"/proc/{process}/task").iterdir():
            children = (thread / "children").read_text().split()
            processes += map(int, children)
            total += sum(map(_seconds_of, children))
    return total


def _seconds_of(process: str) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def quickest(ask: Any, queries: np.ndarray, clock: Clock) -> tuple[list[list[int]], float]:
    """The answers, and the seconds of the quickest pass over all queries."""
    best = float("inf")
    for _ in range(PASSES):
        began = clock()
        answers = [ask(query) for query in queries]
        best = min(best, clock() - began)
        if best > LONG / PASSES:
            break
    return answers, best


def sweep(engine: Engine, vectors: np.ndarray, queries: np.ndarray, clock: Clock) -> Iterator[dict[str, Any]]:
    """One line for each effort: with documents where there are any, with the filter, and without documents."""
    rows = np.arange(len(vectors))
    for name, some in (("search", vectors), ("filtered", vectors[rows % FILTER_SHARE == 3]), ("bare", vectors)):
        if (name == "filtered" and not engine.payload) or not hasattr(engine, name):
            continue
        scores = queries @ some.T
        bar = np.partition(scores, -K, axis=1)[:, -K]
        del scores
        for effort in engine.efforts:
            engine.careful(effort)
            ask = getattr(engine, name)
            ask(queries[0])
            answers, spent = quickest(ask, queries, clock)
            found = [
                np.mean([vectors[n] @ query >= least - 1e-6 for n in answer]) * len(answer) / K if answer else 0.0
                for answer, query, least in zip(answers, queries, bar, strict=True)
            ]
            recall = round(float(np.mean(found)), 4)
            yield {"what": name, "effort": effort, "recall": recall, "qps": len(queries) / spent}
            if recall >= ENOUGH:
                break


def main() -> None:
    name, place = sys.argv[1], Path(sys.argv[2])
    vectors, queries = np.load(place / "vectors.npy"), np.load(place / "queries.npy")
    folder = place / re.sub(r"\W+", "-", name)
    folder.mkdir()
    engine = ENGINES[name](folder, vectors.shape[1])
    before = memory()
    began, at_first = time.perf_counter(), processor_seconds()
    engine.build(vectors)
    spent = {"build_s": time.perf_counter() - began, "build_cpu_s": processor_seconds() - at_first}
    clock = processor_seconds if "--busy" in sys.argv[3:] else time.perf_counter
    lines = list(sweep(engine, vectors, queries, clock))
    grown = memory() - before
    print(json.dumps({"engine": name, **spent, "memory": grown, "lines": lines}))


if __name__ == "__main__":
    main()
