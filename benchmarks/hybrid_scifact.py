"""Dense search, search in words, and both fused, on SciFact: nDCG@10 of a split, and milliseconds a query.

    python benchmarks/hybrid_scifact.py [--data ../shared/data/scifact] [--split test] [--vectors CACHE.npz]

The times are those of the collection and the fusion; encoding the query comes on top. `--vectors` keeps what was
encoded in a file, for the next run. `weighted@W` lines show other weights; the default was chosen on `train`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np

from mmseek import Content, Document, Hit, load_encoder
from mmseek.evaluation import Dataset, load_dataset
from mmseek.index import open_collection
from mmseek.pipeline.hybrid import fuse, reciprocal_ranks, weighted_scores
from mmseek.protocols import Collection, Encoder

DEPTH = 100
K = 10
WEIGHTS = (0.3, 0.4, 0.5, 0.6, 0.7)


def encoded(
    encoder: Encoder, data: Dataset, documents: Sequence[Document], cache: Path | None
) -> dict[str, np.ndarray]:
    """Vectors of the documents, and of the split's queries."""
    kept: dict[str, np.ndarray] = {}
    if cache is not None and cache.exists():
        with np.load(cache, allow_pickle=False) as file:
            kept = {name: file[name] for name in file}
    if kept.get("fingerprint", np.array("")).item() != encoder.identity.fingerprint:
        kept = {"fingerprint": np.array(encoder.identity.fingerprint)}
    if "documents" not in kept:
        kept["documents"] = encoder.encode_document([document.content for document in documents])
    if data.split not in kept:
        kept[data.split] = encoder.encode_query([query.content for query in data.queries])
    if cache is not None:
        np.savez(cache, **kept)  # type: ignore[arg-type]  # numpy's stubs take the names for its own options
    return kept


def ndcg(hits: Sequence[Hit], relevant: dict[str, int]) -> float:
    """nDCG@10 of one ranking."""
    discounts = 1 / np.log2(np.arange(2, K + 2))
    gains = np.array([relevant.get(hit.id, 0) for hit in hits[:K]] + [0] * (K - len(hits[:K])))
    ideal = np.array((sorted(relevant.values(), reverse=True) + [0] * K)[:K])
    return float(gains @ discounts / (ideal @ discounts))


def ways(collection: Collection) -> dict[str, Callable[[Content, np.ndarray], list[Hit]]]:
    """Every way to search, by name."""

    def dense(_content: Content, vector: np.ndarray, k: int = K) -> list[Hit]:
        return collection.search(vector, k)

    def lexical(content: Content, _vector: np.ndarray, k: int = K) -> list[Hit]:
        return collection.search_text(content.text, k)

    def hybrid(content: Content, vector: np.ndarray, fusion: Callable[..., dict[str, float]]) -> list[Hit]:
        return fuse(dense(content, vector, DEPTH), lexical(content, vector, DEPTH), K, fusion)

    weighted = {f"weighted@{w}": partial(hybrid, fusion=partial(weighted_scores, dense_weight=w)) for w in WEIGHTS}
    return {"dense": dense, "lexical": lexical, "rrf": partial(hybrid, fusion=reciprocal_ranks), **weighted}


def measured(
    search: Callable[[Content, np.ndarray], list[Hit]], data: Dataset, vectors: np.ndarray
) -> dict[str, float]:
    """nDCG@10 and the median milliseconds of one way to search."""
    search(data.queries[0].content, vectors[0])  # builds what is built at the first search
    scores, times = [], []
    for query, vector in zip(data.queries, vectors, strict=True):
        began = time.perf_counter()
        hits = search(query.content, vector)
        times.append((time.perf_counter() - began) * 1000)
        scores.append(ndcg(hits, dict(data.qrels[query.id])))
    return {"ndcg@10": round(float(np.mean(scores)), 4), "median_ms": round(float(np.median(times)), 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/scifact"))
    parser.add_argument("--split", default="test")
    parser.add_argument("--encoder", default="mini")
    parser.add_argument("--vectors", type=Path)
    arguments = parser.parse_args()
    encoder = load_encoder(arguments.encoder)
    data = load_dataset(arguments.data, arguments.split)
    documents = [document for document in data.corpus() if isinstance(document, Document)]
    vectors = encoded(encoder, data, documents, arguments.vectors)
    report: dict[str, object] = {"split": arguments.split, "encoder": arguments.encoder, "queries": len(data.queries)}
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(open_collection(Path(folder) / "c", mode="create", encoder=encoder.identity)) as collection,
    ):
        collection.upsert(documents, vectors["documents"])
        for name, search in ways(collection).items():
            report[name] = measured(search, data, vectors[arguments.split])
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
