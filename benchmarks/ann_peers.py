"""Our full search path beside other engines: QPS in buckets of recall, ingest, memory, with and without a filter.

    python benchmarks/ann_peers.py [--rows 10000 100000 1000000] [--embed 48000] [--queries 200] [--engines ...]
                                   [--peers-python VENV/bin/python] [--results FILE] [--minutes 6] [--busy]
                                   [--plot FILE]

Vectors of a real distribution (`ann_vectors.py`), text queries, one query at a time on one core. Every engine runs in a
process of its own, one after the other; graphs have the same number of links and the same care in building. `mmseek`
builds more: documents, a durable ledger, an index of words and the graph. For each engine and bucket of recall@10 the
best QPS of a sweep; the plot shows how QPS at a recall of 0.95 and more, ingest and memory grow with the rows. lancedb
and milvus-lite are no dependencies of ours: give a Python that has them with --peers-python; an engine that is not
installed is left out. With --results each finished engine is a line of that file, a run that is started again goes on
where the last one ended, and --minutes stops it between two engines. On a machine with other work, --busy counts
processor time instead of the clock. The plot is docs/images/ann_peers.png.

At the end it says how our search without payload compares with the best library, our filtered search with documents
with lancedb's and milvus-lite's, and our ingest with usearch's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ann_vectors
import numpy as np
from ann_engines import ENGINES
from rich.console import Console
from rich.table import Table

BUCKETS = ((0.80, "80-89"), (0.90, "90-94"), (0.95, "95-98"), (0.99, "99+"))
FOREIGN = {"lancedb", "milvus-lite"}
LIBRARIES = ("hnswlib", "hnswlib, more links", "usearch", "faiss-hnsw", "faiss-ivf-sq8")
BATTERIES = ("lancedb", "milvus-lite")
PLOT = Path(__file__).resolve().parents[1] / "docs" / "images" / "ann_peers.png"


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


def run_engine(name: str, place: Path, python: str, *, busy: bool) -> dict[str, Any]:
    program = Path(__file__).with_name("ann_engines.py")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [python, str(program), name, str(place), *(["--busy"] if busy else [])]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        return {"engine": name, "error": done.stderr.strip().splitlines()[-1:] or [f"exit {done.returncode}"]}
    return json.loads(done.stdout.splitlines()[-1])


def remembered(path: Path | None) -> list[dict[str, Any]]:
    """What earlier runs found."""
    if path is None or not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def run_size(rows: int, options: argparse.Namespace, known: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The engines that were not measured at this size, one after the other, until the time is over."""
    measured = {found["engine"] for found in known if found["rows"] == rows}
    waiting = [name for name in options.engines if name not in measured]
    if not waiting or time.monotonic() > options.ends:
        return []
    vectors, queries, words = ann_vectors.load(rows, options.embed)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        np.save(place / "vectors.npy", vectors)
        np.save(place / "queries.npy", queries[256 : 256 + options.queries])
        np.save(place / "tuning.npy", queries[:256])
        del vectors  # as much memory as the engine's own
        for name in waiting:
            if time.monotonic() > options.ends:
                break
            python = options.peers_python if name in FOREIGN else sys.executable
            found = run_engine(name, place, python, busy=options.busy) | {"rows": rows, "vectors": words}
            if "error" not in found:
                found["buckets"] = {what: best(found["lines"], what) for what in ("search", "filtered", "bare")}
                if options.results:
                    with options.results.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(found) + "\n")
            print(json.dumps(found), flush=True)
            results.append(found)
    return results


def show(results: list[dict[str, Any]], rows: int, console: Console) -> None:
    """The table of one size."""
    mine = [found for found in results if found["rows"] == rows]
    words = mine[0]["vectors"] if mine else ""
    columns = ("engine", "rows/s", "MB", *(name for _, name in BUCKETS), "no documents 95+", "filtered 95+")
    table = Table(*columns, title=f"{rows:,}: {words}")
    for found in mine:
        if "error" in found:
            table.add_row(found["engine"], "failed: " + str(found["error"][-1])[:60])
            continue
        others = [at_least(found["lines"], what, 0.95) for what in ("bare", "filtered")]
        table.add_row(
            found["engine"],
            f"{rows / found['build_s']:,.0f}",
            f"{found['memory'] / 1e6:,.0f}",
            *(f"{found['buckets']['search'].get(label, 0):,.0f}" for _, label in BUCKETS),
            *("-" if rate is None else f"{rate:,.0f}" for rate in others),
        )
    console.print(table)


def verdict(results: list[dict[str, Any]], rows: int) -> dict[str, Any]:
    """Our best beside theirs; None where one of them was not measured."""
    mine = [found for found in results if found["rows"] == rows and "error" not in found]

    def fastest(names: Callable[[str], bool], what: str) -> float | None:
        rates = [at_least(found["lines"], what, 0.95) for found in mine if names(found["engine"])]
        return max((rate for rate in rates if rate is not None), default=None)

    def ratio(one: float | None, other: float | None) -> float | None:
        return None if one is None or not other else round(one / other, 2)

    plain = fastest(lambda name: name.startswith("mmseek"), "bare")
    filtered = fastest(lambda name: name.startswith("mmseek"), "filtered")

    def ingest(what: str) -> float | None:
        built = {found["engine"]: rows / found[what] for found in mine}
        return ratio(
            max((rate for name, rate in built.items() if name.startswith("mmseek")), default=None), built.get("usearch")
        )

    return {
        "rows": rows,
        "search_over_best_library": ratio(plain, fastest(lambda name: name in LIBRARIES, "search")),
        **{f"filtered_over_{name}": ratio(filtered, fastest(name.__eq__, "filtered")) for name in BATTERIES},
        "ingest_over_usearch": ingest("build_s"),
        "ingest_over_usearch_by_processor_time": ingest("build_cpu_s"),
    }


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
    parser.add_argument("--results", type=Path, help="JSON lines; what is in there is not measured again")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no engine after so many")
    parser.add_argument("--busy", action="store_true", help="processor time, for a machine with other work")
    parser.add_argument("--plot", type=Path, nargs="?", const=PLOT)
    options = parser.parse_args()
    options.ends = time.monotonic() + 60 * options.minutes
    console = Console(stderr=True, width=140)
    results = remembered(options.results)
    for rows in options.rows:
        results += run_size(rows, options, results)
    for rows in options.rows:
        show(results, rows, console)
        print(json.dumps(verdict(results, rows)), flush=True)
    if options.plot:
        plot(results, options.plot)


if __name__ == "__main__":
    main()
