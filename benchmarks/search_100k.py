"""What a collection adds to FAISS: 100,000 vectors of 384 dimensions, one query at a time, the ten best.

    python benchmarks/search_100k.py [--rows N] [--queries N] [--json]

Compares, in one run and query by query in turn (so that whatever else the machine does meets all alike):

- `faiss`: `IndexFlatIP.search` as it comes, which spreads one query over all cores;
- `faiss-1`: the same on one core, which is what a collection uses for one query;
- `collection`: `Collection.search`, that is FAISS, a consistent snapshot of SQLite and ten decoded documents.

Also reports the memory that opening costs, as a multiple of the vectors' bytes. Vectors are drawn from a mixture of
1,000 Gaussians with a fixed seed, and normalised.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from mmseek import Content, Document, EncoderIdentity
from mmseek.index import open_collection

DIM = 384
K = 10
BATCH = 5000
_NOBODY = EncoderIdentity("mini", "f" * 64, DIM)


def mixture(rows: int, seed: int) -> np.ndarray:
    """Unit vectors (rows, DIM); the same centres for every seed."""
    centres = np.random.default_rng(0).standard_normal((1000, DIM)).astype(np.float32)
    rng = np.random.default_rng(seed)
    values = centres[rng.integers(0, len(centres), rows)] + rng.standard_normal((rows, DIM)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def fill(folder: Path, vectors: np.ndarray, encoder: EncoderIdentity = _NOBODY) -> float:
    """Store the vectors with small documents; seconds."""
    started = time.perf_counter()
    collection = open_collection(folder, mode="create", encoder=encoder)
    for low in range(0, len(vectors), BATCH):
        documents = [
            Document(f"d{n}", Content.of(f"a short text about the subject of row {n}"), {"n": n})
            for n in range(low, min(low + BATCH, len(vectors)))
        ]
        collection.upsert(
            documents, vectors[low : low + BATCH], [f"{n:064x}" for n in range(low, low + len(documents))]
        )
    collection.close()
    return time.perf_counter() - started


def compare(folder: Path, vectors: np.ndarray, queries: np.ndarray) -> dict[str, object]:
    """Milliseconds of each way to search, and whether they agree."""
    import faiss

    raw = faiss.IndexFlatIP(DIM)
    raw.add(vectors)
    cores = faiss.omp_get_max_threads()
    started = time.perf_counter()
    collection = open_collection(folder)
    collection.search(queries[0], K)
    first = time.perf_counter() - started

    def plain(query: np.ndarray) -> list[int]:
        return raw.search(query[None], K)[1][0].tolist()

    def one_core(query: np.ndarray) -> list[int]:
        faiss.omp_set_num_threads(1)
        try:
            return raw.search(query[None], K)[1][0].tolist()
        finally:
            faiss.omp_set_num_threads(cores)

    def whole(query: np.ndarray) -> list[int]:
        return [hit.document.metadata["n"] for hit in collection.search(query, K)]

    ways = {"faiss": plain, "faiss-1": one_core, "collection": whole}
    times: dict[str, list[float]] = {name: [] for name in ways}
    agree = 0
    for number, query in enumerate(queries):
        answers = []
        names = list(ways)
        for name in names[number % 3 :] + names[: number % 3]:
            begun = time.perf_counter()
            answers.append(ways[name](query))
            times[name].append((time.perf_counter() - begun) * 1000)
        agree += answers[0] == answers[1] == answers[2]
    collection.close()
    p50 = {name: round(float(np.median(values)), 3) for name, values in times.items()}
    best = {name: round(min(values), 3) for name, values in times.items()}
    return {
        "p50_ms": p50,
        "min_ms": best,
        "added_to_faiss_ms": round(p50["collection"] - p50["faiss"], 3),
        "added_to_faiss_1_ms": round(float(np.median(np.subtract(times["collection"], times["faiss-1"]))), 3),
        "same_answers": f"{agree}/{len(queries)}",
        "first_search_s": round(first, 2),
    }


MEMORY = """
import re, sys
from pathlib import Path
import numpy as np
from mmseek.index import exact, open_collection
# Not ru_maxrss, which a child takes over from its parent.
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
before = peak()
collection = open_collection(sys.argv[1])
collection.search(np.ones(384, dtype=np.float32), 10)
print(peak() - before)
"""


def memory(folder: Path, rows: int) -> float:
    """Peak memory of opening and searching once, in a process of its own, over the bytes of the vectors. Linux only."""
    done = subprocess.run([sys.executable, "-c", MEMORY, str(folder)], capture_output=True, text=True, check=True)
    return round(int(done.stdout) / (rows * DIM * 4), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    vectors, queries = mixture(options.rows, 1), mixture(options.queries, 2)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "collection"
        result: dict[str, object] = {
            "rows": options.rows,
            "dim": DIM,
            "k": K,
            "fill_s": round(fill(folder, vectors), 1),
        }
        result["open_peak_memory_x"] = memory(folder, options.rows)
        result |= compare(folder, vectors, queries)
        started = time.perf_counter()
        with open_collection(folder) as collection:
            result["verify_ok"] = collection.verify().ok
        result["verify_s"] = round(time.perf_counter() - started, 2)
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:22} {value}")


if __name__ == "__main__":
    main()
