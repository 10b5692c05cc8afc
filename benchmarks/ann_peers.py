"""Our full search path beside other engines: QPS in buckets of recall, ingest, memory, with and without a filter.

    python benchmarks/ann_peers.py [--rows 10000 100000 1000000] [--embed 48000] [--queries 200] [--engines ...]
                                   [--peers-python VENV/bin/python] [--plot ann_peers.png]

Vectors of a real distribution (`ann_vectors.py`), text queries, one query at a time on one core. Every engine runs in a
process of its own, one after the other; graphs have the same number of links and the same care in building. `mmseek`
builds more: documents, a durable ledger, an index of words and the graph. For each engine and bucket of recall@10 the
best QPS of a sweep; the plot shows how QPS at a recall of 0.95 and more, ingest and memory grow with the rows. lancedb
and milvus-lite are no dependencies of ours: give a Python that has them with --peers-python, or leave them out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import ann_vectors
import numpy as np
from ann_engines import ENGINES
from rich.console import Console
from rich.table import Table

BUCKETS = ((0.80, "80-89"), (0.90, "90-94"), (0.95, "95-98"), (0.99, "99+"))
FOREIGN = {"lancedb", "milvus-lite"}


def bucket(recall: float) -> str | None:
    return next((name for least, name in reversed(BUCKETS) if recall >= least), None)


def best(lines: list[dict[str, Any]], what: str) -> dict[str, float]:
    """The best QPS of each bucket."""
    found: dict[str, float] = {}
    for line in lines:
        name = bucket(line["recall"])
        if line["what"] == what and name is not None:
            found[name] = max(found.get(name, 0.0), round(line["qps"], 1))
    return found


def at_least(lines: list[dict[str, Any]], what: str, recall: float) -> float | None:
    return max((line["qps"] for line in lines if line["what"] == what and line["recall"] >= recall), default=None)


def run_engine(name: str, place: Path, python: str) -> dict[str, Any]:
    program = Path(__file__).with_name("ann_engines.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [python, str(program), name, str(place)], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        return {"engine": name, "error": done.stderr.strip().splitlines()[-1:] or [f"exit {done.returncode}"]}
    return json.loads(done.stdout.splitlines()[-1])


def run_size(rows: int, options: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    vectors, queries, words = ann_vectors.load(rows, options.embed)
    results = []
    table = Table("engine", "rows/s", "MB", *(name for _, name in BUCKETS), "filtered 95+", title=f"{rows:,}: {words}")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        np.save(place / "vectors.npy", vectors)
        np.save(place / "queries.npy", queries[256 : 256 + options.queries])
        np.save(place / "tuning.npy", queries[:256])
        for name in options.engines:
            python = options.peers_python if name in FOREIGN else sys.executable
            found = run_engine(name, place, python) | {"rows": rows, "vectors": words}
            results.append(found)
            if "error" in found:
                print(json.dumps(found), flush=True)
                table.add_row(name, "failed")
                continue
            found["buckets"] = {what: best(found["lines"], what) for what in ("search", "filtered")}
            print(json.dumps(found), flush=True)
            filtered = at_least(found["lines"], "filtered", 0.95)
            shown = [f"{found['buckets']['search'].get(label, 0):,.0f}" for _, label in BUCKETS]
            table.add_row(
                name,
                f"{rows / found['build_s']:,.0f}",
                f"{found['memory'] / 1e6:,.0f}",
                *shown,
                "-" if filtered is None else f"{filtered:,.0f}",
            )
    console.print(table)
    return results


def plot(results: list[dict[str, Any]], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, panes = plt.subplots(1, 3, figsize=(15, 4.5), constrained_layout=True)
    titles = ("QPS at recall@10 of 0.95 and more", "rows ingested a second", "memory, MB")
    for name in dict.fromkeys(result["engine"] for result in results if "error" not in result):
        mine = [result for result in results if result["engine"] == name and "error" not in result]
        sizes = [result["rows"] for result in mine]
        for pane, values in zip(
            panes,
            (
                [at_least(result["lines"], "search", 0.95) or np.nan for result in mine],
                [result["rows"] / result["build_s"] for result in mine],
                [result["memory"] / 1e6 for result in mine],
            ),
            strict=True,
        ):
            pane.plot(sizes, values, marker="o", label=name, linestyle="-" if name.startswith("mmseek") else "--")
    for pane, title in zip(panes, titles, strict=True):
        pane.set(title=title, xlabel="rows", xscale="log", yscale="log")
        pane.grid(visible=True, alpha=0.3)
    panes[0].legend(fontsize=8)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000])
    parser.add_argument("--embed", type=int, default=48_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    console = Console(stderr=True, width=140)
    results = [result for rows in options.rows for result in run_size(rows, options, console)]
    if options.plot:
        plot(results, options.plot)


if __name__ == "__main__":
    main()
