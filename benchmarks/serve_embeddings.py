"""How many texts a second `POST /v1/embeddings` answers, beside infinity-emb with the same MiniLM weights.

    python -m venv /tmp/infinity && /tmp/infinity/bin/pip install 'infinity-emb[server,torch,optimum]==0.0.78'
    python benchmarks/serve_embeddings.py --infinity /tmp/infinity/bin/infinity_emb [--seconds 10] [--rounds 3]

Both servers run at once, each in a process of its own, and take turns; an idle server takes no time. The load comes
from a further process: closed-loop clients (a client asks again when it has its answer), 1 x 32, 8 x 8 and 16 x 1
(clients x texts a request). No text is sent twice, and mmseek's cache of vectors is off. Answers are asked for as
base64, as OpenAI's client does, and as lists of numbers with `--float`. The clients read the answers and do not take
them apart.

`times` is the median over the rounds of our texts a second divided by theirs of the same round; above 1, mmseek is
faster. p50 and p99 are milliseconds of a request, over all rounds. The last line of stdout is one line of JSON.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

CASES = ((1, 32), (8, 8), (16, 1))


def load(port: int, path: str, clients: int, texts: int, seconds: float, pool: list[str], kind: str) -> dict:
    """Closed-loop clients in threads; texts a second, and the milliseconds of each request."""
    numbers = itertools.count(random.SystemRandom().randrange(10**9))
    times: list[float] = []
    end = time.perf_counter() + seconds

    def client(_: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        began = 0.0
        while began < end:  # at least once
            began = time.perf_counter()
            inputs = [f"{(number := next(numbers))} {pool[number % len(pool)]}" for _ in range(texts)]
            body = json.dumps({"model": "m", "input": inputs, "encoding_format": kind})
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{path} on port {port} answered {answer.status}")
            times.append((time.perf_counter() - began) * 1000)
        connection.close()

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        list(threads.map(client, range(clients)))
    return {"rate": len(times) * texts / (time.perf_counter() - began), "times": times}


def from_another_process(port: int, path: str, clients: int, texts: int, options: argparse.Namespace) -> dict:
    asked = json.dumps([port, path, clients, texts, options.seconds, "float" if options.float else "base64"])
    command = [sys.executable, __file__, "--client", asked, "--data", str(options.data)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


@contextmanager
def server(command: list[str], port: int, path: str) -> Iterator[None]:
    """A server that answers by the time that this is entered."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "MMSEEK_SERVE_CACHE_BYTES": "0"}
    log = Path(tempfile.gettempdir()) / f"serve_embeddings.{Path(command[0]).name}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise SystemExit(f"{command[0]} ended with {process.returncode}: see {log}")
            try:
                load(port, path, 1, 1, 0.1, ["warm up"], "float")
                break
            except OSError:
                time.sleep(0.2)
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def texts_of(data: Path) -> list[str]:
    """Sentences of scifact's abstracts, up to 40 words, shuffled."""
    with (data / "corpus.jsonl").open(encoding="utf-8") as file:
        abstracts = [json.loads(line)["text"] for line in file]
    sentences = [" ".join(part.split()[:40]) for text in abstracts for part in text.split(". ") if len(part) > 20]
    random.Random(0).shuffle(sentences)
    return sentences


def percentile(times: list[float], share: float) -> float:
    return sorted(times)[min(int(len(times) * share), len(times) - 1)]


def run(options: argparse.Namespace) -> dict:
    from mmseek.embed.mini.weights import find_text_model

    ports = {"mmseek": free_port(), "infinity": free_port()}
    paths = {"mmseek": "/v1/embeddings", "infinity": "/embeddings"}
    ours = [sys.executable, "-m", "mmseek", "serve", "--encoder", "mini", "--name", "m", "--port", str(ports["mmseek"])]
    theirs = [str(options.infinity), "v2", "--model-id", str(find_text_model()), "--engine", "torch", "--device", "cpu"]
    theirs += ["--no-bettertransformer", "--served-model-name", "m", "--port", str(ports["infinity"])]
    found: dict[str, dict] = {}
    with server(ours, ports["mmseek"], paths["mmseek"]), server(theirs, ports["infinity"], paths["infinity"]):
        for clients, texts in CASES:
            runs: dict[str, list[dict]] = {"mmseek": [], "infinity": []}
            for _ in range(options.rounds):
                for name in runs:
                    runs[name].append(from_another_process(ports[name], paths[name], clients, texts, options))
            pairs = zip(runs["mmseek"], runs["infinity"], strict=True)
            case: dict = {"times": round(statistics.median(a["rate"] / b["rate"] for a, b in pairs), 2)}
            for name, each in runs.items():
                times = [one for done in each for one in done["times"]]
                case[name] = {
                    "texts_per_s": round(statistics.median(done["rate"] for done in each), 1),
                    "p50_ms": round(percentile(times, 0.5), 1),
                    "p99_ms": round(percentile(times, 0.99), 1),
                    "requests": len(times),
                }
            found[f"{clients}x{texts}"] = case
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--infinity", type=Path, help="the program infinity_emb of an environment of its own")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/scifact"))
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--float", action="store_true", help="ask for lists of numbers instead of base64")
    parser.add_argument("--client", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        port, path, clients, texts, seconds, kind = json.loads(options.client)
        print(json.dumps(load(port, path, clients, texts, seconds, texts_of(options.data), kind)))
        return
    if options.infinity is None or not options.infinity.exists():
        parser.error("--infinity must be the program infinity_emb: the top of this script says how to install it")
    found = run(options)
    table = Table("clients x texts", "server", "texts/s", "p50 ms", "p99 ms", "times as fast")
    for case, result in found.items():
        for name in ("mmseek", "infinity"):
            row = result[name]
            ratio = str(result["times"]) if name == "mmseek" else ""
            table.add_row(case, name, str(row["texts_per_s"]), str(row["p50_ms"]), str(row["p99_ms"]), ratio)
    Console(stderr=True).print(table)
    answers = "float" if options.float else "base64"
    print(json.dumps({"benchmark": "serve_embeddings", "answers": answers, "rounds": options.rounds, "cases": found}))


if __name__ == "__main__":
    main()
