"""Opening a large collection with a stored index: seconds to the first hit, and memory afterwards.

    python benchmarks/ann_open.py [--rows 100000] [--kinds int8 hnsw ivf-pq rabitq] [--embed 48000] [--folder DIR]

For each kind the collection is opened in a process of its own, asked once, then asked 1,000 times. `rss` counts the
memory that opening and searching add to a process with numpy and FAISS loaded; `times` is that over the bytes of the
quantised vectors (the index file). Linux only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import ann_vectors
import numpy as np

from mmseek import Content, Document, EncoderIdentity
from mmseek.index import open_collection

BATCH = 5000

ASK = """
import json, re, sys, time
from pathlib import Path
import numpy as np
from mmseek.index import exact, open_collection
from mmseek.index.ann import proposer, keeper
def memory():
    text = Path("/proc/self/status").read_text()
    return {name: int(re.search(name + r":\\s+(\\d+) kB", text)[1]) * 1024 for name in ("VmRSS", "RssAnon", "RssFile")}
queries = np.load(sys.argv[2])
before = memory()
began = time.perf_counter()
collection = open_collection(sys.argv[1])
collection.search(queries[0], 10)
opened = time.perf_counter() - began
began = time.perf_counter()
for n in range(1000):
    collection.search(queries[n % len(queries)], 10)
spent = time.perf_counter() - began
after = memory()
with collection._view.current() as (index, _):
    kind = type(index).__name__
print(json.dumps({"open_s": opened, "search_ms": spent, "index": kind, **{k: after[k] - before[k] for k in after}}))
"""


def fill(folder: Path, vectors: np.ndarray) -> float:
    """Store the vectors with small documents; seconds."""
    began = time.perf_counter()
    identity = EncoderIdentity("mini", "f" * 64, vectors.shape[1])
    with closing(open_collection(folder, mode="create", encoder=identity)) as collection:
        for low in range(0, len(vectors), BATCH):
            numbers = range(low, min(low + BATCH, len(vectors)))
            documents = [Document(f"d{n}", Content.of(f"text of row {n}"), {"n": n}) for n in numbers]
            collection.upsert(documents, vectors[low : low + BATCH])
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--embed", type=int, default=48_000)
    parser.add_argument("--kinds", nargs="+", default=["int8", "hnsw", "ivf-pq", "rabitq"])
    parser.add_argument("--folder", type=Path, help="keep the collection here, and use it again")
    options = parser.parse_args()
    vectors, queries, source = ann_vectors.load(options.rows, options.embed)
    with tempfile.TemporaryDirectory() as place:
        folder = options.folder or Path(place) / "collection"
        asked = Path(place) / "queries.npy"
        np.save(asked, queries[300:1300])
        filled = fill(folder, vectors) if not folder.exists() else None
        print(json.dumps({"rows": options.rows, "vectors": source, "fill_s": filled and round(filled, 1)}), flush=True)
        for kind in options.kinds:
            with closing(open_collection(folder, mode="write")) as collection:
                began = time.perf_counter()
                build = collection.ann.tune(kind, queries=queries[:256])
                spent = time.perf_counter() - began
            assert build is not None
            size = build.files[build.index_file][0]
            done = subprocess.run(
                [sys.executable, "-c", ASK, str(folder), str(asked)], capture_output=True, text=True, check=True
            )
            found = json.loads(done.stdout)
            result = {
                "kind": kind,
                "plan": str(build.plan),
                "recall": round(build.recall or 0, 4),
                "build_s": round(spent, 1),
                "index": found["index"],
                "open_s": round(found["open_s"], 3),
                "search_ms": round(found["search_ms"], 3),
                "bytes_per_vector": round(size / build.rows, 1),
                "rss_mb": round(found["VmRSS"] / 1e6, 1),
                "anonymous_mb": round(found["RssAnon"] / 1e6, 1),
                "times": round(found["VmRSS"] / size, 3),
            }
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
