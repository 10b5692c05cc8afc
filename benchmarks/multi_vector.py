"""Collections with a vector for each token: speed of the exact search, and how many candidates by means are enough.

    python benchmarks/multi_vector.py [--rows 16000] [--documents 4000] [--tokens 256] [--queries 60]

Recall: the sentences of abstracts, each embedded by `mini` (`ann_vectors.py`), stand for an abstract's tokens; a query
is four sentences of an abstract that is not in the collection. Speed: random unit vectors of 128 dimensions, as many a
document as a page has after pooling, and a query of 20; beside a plain loop over the same float16 matrices. Processor
time, one core.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import ann_vectors
import numpy as np

from mmseek import Content, Document, EncoderIdentity
from mmseek.index import open_collection
from mmseek.index.tokens.collection import TokenCollection

BATCH = 100


def abstracts(rows: int) -> list[np.ndarray]:
    """The sentence vectors of SciFact's abstracts, as many as `rows` sentences make."""
    pieces = sorted(ann_vectors.CACHE.glob("texts-*.npy"))
    vectors = np.concatenate([np.load(path) for path in pieces])[:rows]
    found, used = [], 0
    for item in ann_vectors.lines(ann_vectors.DATA / "scifact" / "corpus.jsonl"):
        text = str(item["text"] or "").replace("\n", " ")
        count = len([part for part in text.split(". ") if part.strip()])
        if used + count > len(vectors):
            break
        if count:
            found.append(vectors[used : used + count])
        used += count
    return found


def fill(folder: Path, matrices: list[np.ndarray]) -> TokenCollection:
    identity = EncoderIdentity("colqwen2:x", "f" * 64, matrices[0].shape[1], multi_vector=True)
    made = open_collection(folder, mode="create", encoder=identity)
    assert isinstance(made, TokenCollection)
    numbers = iter(range(len(matrices)))
    while some := list(itertools.islice(numbers, BATCH)):
        made.upsert([Document(f"d{n}", Content.of(f"page {n}")) for n in some], [matrices[n] for n in some])
    return made


def spent(work: Callable[[], object], times: int) -> float:
    """Processor seconds of one call, the quickest of some."""
    best = float("inf")
    for _ in range(times):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best


def recall(place: Path, rows: int, queries: int) -> None:
    matrices = abstracts(rows)
    asked = [matrix[:4] for matrix in matrices[-queries:]]
    with closing(fill(place / "abstracts", matrices[:-queries])) as collection:
        best = [collection._exactly(query, 10) for query in asked]  # noqa: SLF001  # what tuning measures
        shares = {
            depth: round(
                float(
                    np.mean(
                        [
                            np.isin(rows, collection._candidates_of(query, depth)).mean()  # noqa: SLF001
                            for rows, query in zip(best, asked, strict=True)
                        ]
                    )
                ),
                3,
            )
            for depth in (10, 20, 40, 80, 160, 320)
        }
        found = collection.tune_tokens(asked, 0.95)
        print(
            json.dumps(
                {
                    "documents": len(matrices) - queries,
                    "vectors": sum(map(len, matrices[:-queries])),
                    "recall_of_candidates": shares,
                    "chosen": None if found is None else found.depth,
                }
            )
        )


def speed(place: Path, documents: int, tokens: int) -> None:
    chance = np.random.default_rng(0)
    matrices = []
    for _ in range(documents):
        matrix = chance.standard_normal((tokens, 128)).astype(np.float32)
        matrices.append(matrix / np.linalg.norm(matrix, axis=1, keepdims=True))
    query = matrices[0][:20]
    with closing(fill(place / "pages", matrices)) as collection:
        collection.search(query, 10)
        ours = spent(lambda: collection.search(query, 10), 5)
    halves = [matrix.astype(np.float16) for matrix in matrices]
    plain = spent(lambda: [(query @ half.astype(np.float32).T).max(axis=1).sum() for half in halves], 2)
    total = documents * tokens
    print(
        json.dumps(
            {
                "documents": documents,
                "vectors": total,
                "search_ms": round(ours * 1000, 1),
                "vectors_per_s": round(total / ours),
                "times_a_plain_loop": round(plain / ours, 2),
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=16_000, help="sentences of abstracts")
    parser.add_argument("--documents", type=int, default=4000)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--queries", type=int, default=60)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        recall(Path(folder), options.rows, options.queries)
        speed(Path(folder), options.documents, options.tokens)


if __name__ == "__main__":
    main()
