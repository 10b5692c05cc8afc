"""What the service adds to a search of 100,000 documents, and how it fares when many search at once.

    python benchmarks/search_load.py [--rows N] [--queries N] [--seconds 10] [--clients 1 4 16] [--rounds 3]

The documents are short texts whose vectors are those of sentences of scifact by `mini`, each with noise of its own.
`mmseek serve` has them in a process of its own, with its cache of vectors off; no text is asked for twice.

Alone: one client asks `POST /v1/search` for a text, over a connection that stays open; then, in this process, the same
text is encoded (`encoder.encode_query`, the torch threads that the service has) and searched by `IndexFlatIP` on one
core, which is what the service gives to one query. They take turns, text by text, each first every other time.
`overhead_ms` is the p50 of the first less the p50 of the second, and `overhead_median_ms` the median of the
differences. `server_ms` says what the answers say of themselves: what is left to the p50 is HTTP and waking threads.

Under load: closed-loop clients from a further process, for `--seconds` each, in `--rounds` rounds; p50 and p99 are
those of all requests of all rounds. The last line of stdout is one line of JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from search_100k import fill
from serve_embeddings import sentences
from serving import Load, free_port, load_from_another_process, mmseek_command, percentile, server

from mmseek import Content
from mmseek.models.device import calm_openmp

K = 10
_SOURCES = 1000  # sentences that are encoded
_NOISE = 0.6  # length of what is added to each vector, about


def stretched(vectors: np.ndarray, rows: int) -> np.ndarray:
    """Unit vectors (rows, d): those given, again and again, each with Gaussian noise of its own."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((rows, vectors.shape[1])).astype(np.float32) * (_NOISE / vectors.shape[1] ** 0.5)
    values = vectors[np.arange(rows) % len(vectors)] + noise
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def ask(connection: http.client.HTTPConnection, text: str) -> dict[str, Any]:
    """One search over REST."""
    body = json.dumps({"text": text, "k": K})
    connection.request("POST", "/v1/search", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    found = answer.read()
    if answer.status != 200:
        raise OSError(f"/v1/search answered {answer.status}: {found[:200]!r}")
    return json.loads(found)


def answers(port: int) -> None:
    """Returns once the service has searched; the first search loads what is loaded late."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=120)) as connection:
        ask(connection, "the first search")


def alone(port: int, encoder: Any, vectors: np.ndarray, texts: list[str]) -> dict[str, Any]:
    """One client, beside the same encoder and FAISS by hand, text by text in turn."""
    import faiss

    from mmseek.index.exact import one_core

    raw = faiss.IndexFlatIP(vectors.shape[1])
    raw.add(vectors)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    own: dict[str, list[float]] = {"encode": [], "search": []}

    def over_rest(text: str) -> list[str]:
        found = ask(connection, text)
        for step, took in own.items():
            took.append(found["timings"][step])
        return [hit["id"] for hit in found["hits"]]

    def by_hand(text: str) -> list[str]:
        vector = encoder.encode_query([Content.of(text)])
        with one_core():
            return [f"d{row}" for row in raw.search(vector, K)[1][0]]

    ways = {"rest": over_rest, "by hand": by_hand}
    times: dict[str, list[float]] = {name: [] for name in ways}
    agree = 0
    for number, text in enumerate(texts):
        found = {}
        for name in sorted(ways, reverse=number % 2 == 0):
            began = time.perf_counter()
            found[name] = ways[name](text)
            times[name].append((time.perf_counter() - began) * 1000)
        agree += found["rest"] == found["by hand"]
    connection.close()
    p50 = {name: statistics.median(each) for name, each in times.items()}
    return {
        "p50_ms": {name: round(each, 2) for name, each in p50.items()},
        "overhead_ms": round(p50["rest"] - p50["by hand"], 2),
        "overhead_median_ms": round(statistics.median(np.subtract(times["rest"], times["by hand"]).tolist()), 2),
        "server_ms": {step: round(statistics.median(took), 2) for step, took in own.items()},
        "same_answers": f"{agree}/{len(texts)}",
    }


def under_load(port: int, source: Path, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """p50 and p99 for each number of clients."""
    times: dict[int, list[float]] = {clients: [] for clients in options.clients}
    rates: dict[int, list[float]] = {clients: [] for clients in options.clients}
    for _ in range(options.rounds):
        for clients in options.clients:
            asked = Load(port, "/v1/search", clients, 1, options.seconds, str(source), "search")
            found = load_from_another_process(asked)
            times[clients] += found["times"]
            rates[clients].append(found["rate"])
    return {
        str(clients): {
            "searches_per_s": round(statistics.median(rates[clients]), 1),
            "p50_ms": round(percentile(each, 0.5), 1),
            "p99_ms": round(percentile(each, 0.99), 1),
            "p99_by_p50": round(percentile(each, 0.99) / percentile(each, 0.5), 2),
            "requests": len(each),
        }
        for clients, each in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/scifact"))
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=300, help="of the comparison")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run under load")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    calm_openmp(os.environ)  # as the service does; before torch is loaded
    from mmseek.embed import load_encoder

    with tempfile.TemporaryDirectory() as scratch:
        source = sentences(options.data, Path(scratch, "texts"))
        texts = source.read_text(encoding="utf-8").splitlines()
        encoder = load_encoder("mini")
        vectors = stretched(encoder.encode_document([Content.of(text) for text in texts[:_SOURCES]]), options.rows)
        folder = Path(scratch, "index")
        fill(folder, vectors, encoder.identity)
        port = free_port()
        command = mmseek_command("", port)
        command[command.index("-e") : command.index("-e") + 2] = ["-c", str(folder)]
        with server(command, partial(answers, port)):
            asked = [f"{number} {texts[-1 - number % len(texts)]}" for number in range(options.queries + 20)]
            alone(port, encoder, vectors, asked[:20])  # both are warm
            found = alone(port, encoder, vectors, asked[20:])
            load = under_load(port, source, options)
    table = Table("clients", "searches/s", "p50 ms", "p99 ms", "p99 / p50")
    for clients, row in load.items():
        table.add_row(clients, *(str(row[key]) for key in ("searches_per_s", "p50_ms", "p99_ms", "p99_by_p50")))
    console = Console(file=sys.stderr)
    console.print(found)
    console.print(table)
    print(
        json.dumps(
            {"benchmark": "search_load", "rows": options.rows, "queries": options.queries, **found, "load": load}
        )
    )


if __name__ == "__main__":
    main()
