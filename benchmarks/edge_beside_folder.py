"""A collection in Qdrant's engine beside one in a folder: storing, and one query at a time, the ten best.

    python benchmarks/edge_beside_folder.py [--rows N] [--queries N] [--json]

Compares, in one run and query by query in turn:

- `folder`: the collection in a folder, exact search with FAISS;
- `edge`: `qdrant-edge:DIR` with its graph, after `compact`;
- `engine`: the graph asked directly, without documents, so that `edge` over it is what our path costs.

By vector, by vector under a filter that one document in a hundred meets, and in words. Recall is against the folder,
which is exact. Vectors are drawn from a mixture of 1,000 Gaussians with a fixed seed, as in `search_100k.py`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as engine
from search_100k import DIM, K, mixture

from mmseek import Content, Document, EncoderIdentity
from mmseek.index import open_collection
from mmseek.index.qdrant.collection import QdrantCollection
from mmseek.index.qdrant.edge import EdgeStore
from mmseek.protocols import Collection

BATCH = 1000
WORDS = ("red", "bike", "map", "river", "night", "sign", "market", "old", "blue", "train")


def fill(place: str, vectors: np.ndarray) -> tuple[Collection, float]:
    """A collection with the vectors and small documents, and the seconds that storing took."""
    made = open_collection(place, mode="create", encoder=EncoderIdentity("mini", "f" * 64, DIM))
    chance = np.random.default_rng(2)
    began = time.perf_counter()
    for low in range(0, len(vectors), BATCH):
        rows = range(low, min(low + BATCH, len(vectors)))
        texts = [" ".join(chance.choice(WORDS, 3)) + f" row{n}" for n in rows]
        documents = [Document(f"d{n}", Content.of(text), {"n": n % 100}) for n, text in zip(rows, texts, strict=True)]
        made.upsert(documents, vectors[low : low + BATCH])
    return made, time.perf_counter() - began


def ask_engine(collection: Collection) -> Callable[[np.ndarray], object]:
    """The same search without anything of ours."""
    assert isinstance(collection, QdrantCollection)
    store = collection._opened  # noqa: SLF001  # the benchmark takes our path apart
    assert isinstance(store, EdgeStore)
    shard: Any = store._shard  # noqa: SLF001

    def ask(query: np.ndarray) -> object:
        nearest = engine.Query.Nearest(query.tolist(), using="dense")
        params = engine.SearchParams(hnsw_ef=128)
        return shard.query(engine.QueryRequest(limit=K, query=nearest, params=params))

    return ask


def timed(ways: dict[str, Callable[[int], object]], rounds: int) -> dict[str, float]:
    """Median milliseconds of each way; they take turns."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            began = time.perf_counter()
            way(number)
            took[name].append((time.perf_counter() - began) * 1000)
    return {name: round(statistics.median(times), 3) for name, times in took.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--json", action="store_true", help="one line of JSON instead of indented JSON")
    chosen = parser.parse_args()
    vectors, queries = mixture(chosen.rows, 1), mixture(chosen.queries, 3)
    with tempfile.TemporaryDirectory() as scratch:
        folder, folder_seconds = fill(str(Path(scratch) / "folder"), vectors)
        edge, edge_seconds = fill(f"qdrant-edge:{scratch}/edge", vectors)
        began = time.perf_counter()
        edge.compact()
        graph_seconds = time.perf_counter() - began
        direct = ask_engine(edge)
        right = 0
        for query in queries:
            exact = {hit.id for hit in folder.search(query, K)}
            right += len(exact & {hit.id for hit in edge.search(query, K)})
        both = {"folder": folder, "edge": edge}
        found = {
            "rows": chosen.rows,
            "stored_per_second": {
                "folder": round(chosen.rows / folder_seconds),
                "edge": round(chosen.rows / edge_seconds),
            },
            "graph_seconds": round(graph_seconds, 1),
            "recall_at_10": round(right / (K * len(queries)), 4),
            "ms": timed(
                {name: lambda n, c=c: c.search(queries[n], K) for name, c in both.items()}  # type: ignore[misc]
                | {"engine": lambda n: direct(queries[n])},
                chosen.queries,
            ),
            "ms_filtered": timed(
                {
                    name: lambda n, c=c: c.search(queries[n], K, filter=f"n == {n % 100}")  # type: ignore[misc]
                    for name, c in both.items()
                },
                chosen.queries,
            ),
            "ms_words": timed(
                {
                    name: lambda n, c=c: c.search_text(f"{WORDS[n % 10]} row{n * 37}", K)  # type: ignore[misc]
                    for name, c in both.items()
                },
                min(chosen.queries, 50),
            ),
            "bytes": {name: c.info().bytes for name, c in both.items()},
        }
        for collection in both.values():
            collection.close()
    print(json.dumps(found, indent=None if chosen.json else 2))


if __name__ == "__main__":
    main()
