"""Recall and bytes a vector of each kind of index, over vectors of a real distribution (`ann_vectors.py`).

    python benchmarks/ann_recall.py [--rows 20000] [--embed 48000] [--recall 0.95] [--kinds ...]

Each kind is tuned to the recall with half of the text queries and measured with the other half. Beside it, the trap:
the same index searched with what is enough when recall is measured with document vectors (`tuned_on_documents`), and
what text queries then find. One line of JSON a kind.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import ann_vectors
import numpy as np

from mmseek.index.ann.files import Settings
from mmseek.index.ann.plan import APPROXIMATE, plan_for
from mmseek.index.ann.sources import ArraySource
from mmseek.index.ann.tuning import cheapest, make_trial, measure, tune


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--embed", type=int, default=48_000)
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("--kinds", nargs="+", default=list(APPROXIMATE))
    options = parser.parse_args()
    vectors, queries, words = ann_vectors.load(options.rows, options.embed)
    rows, source = np.arange(len(vectors)), ArraySource(vectors)
    half = len(queries) // 2
    texts, held_out = (
        make_trial(vectors.shape[1], rows, source, part[:256], rows) for part in (queries[:half], queries[half:])
    )
    some = vectors[np.random.default_rng(5).permutation(len(vectors))[:256]]
    documents = make_trial(vectors.shape[1], rows, source, some, rows)
    print(json.dumps({"benchmark": "ann_recall", "rows": len(vectors), "vectors": words, "target": options.recall}))
    for kind in options.kinds:
        began = time.perf_counter()
        made = tune(Settings(kind, options.recall), texts)
        spent = time.perf_counter() - began
        with tempfile.TemporaryDirectory() as folder:
            made.proposer.save(Path(folder) / "index")
            size = (Path(folder) / "index").stat().st_size
        trap = cheapest(documents, made.proposer, plan_for(kind, vectors.shape[1], len(vectors)), options.recall)
        found, trapped = measure(held_out, made.proposer, made.plan), measure(held_out, made.proposer, trap.plan)
        assert found is not None
        assert trapped is not None
        result = {
            "kind": kind,
            "plan": str(made.plan),
            "recall": round(made.recall or 0, 4),
            "held_out": round(found[0], 4),
            "ms": round(found[1], 3),
            "bytes_per_vector": round(size / len(vectors), 1),
            "tuned_on_documents": str(trap.plan),
            "recall_it_says": round(trap.recall or 0, 4),
            "recall_of_texts": round(trapped[0], 4),
            "build_s": round(spent, 1),
        }
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
