"""Servers as processes of their own, and closed-loop clients: what the benchmarks of serving share.

The load comes from a further process, `python benchmarks/serving.py ASKED`, so that its work does not stand in the way
of a server's threads. A client asks again when it has its answer, reads answers and does not take them apart.
"""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

# mmseek's answers are asked for anew each time; infinity has no cache unless told.
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "MMSEEK_SERVE_CACHE_BYTES": "0",
    "INFINITY_CACHE_DIR": str(Path(tempfile.gettempdir(), "infinity_cache")),  # else where it is started
}


@dataclass(frozen=True)
class Load:
    """Closed-loop clients.

    Args:
        port, path: where they ask.
        clients, items: how many clients, and items in each request.
        seconds: after which no request is begun; each client makes at least one.
        source: a file of texts, one a line, or a folder of pictures.
        kind: `base64` or `float`, of vectors; `search` for searches, of one item each.
    """

    port: int
    path: str
    clients: int
    items: int
    seconds: float
    source: str
    kind: str = "base64"


def run_load(asked: Load) -> dict:
    """Items a second, and the milliseconds of each request."""
    make_body = _bodies(asked)
    times: list[float] = []
    end = time.perf_counter() + asked.seconds

    def client(_: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", asked.port, timeout=120)
        began = 0.0
        while began < end:
            began = time.perf_counter()
            connection.request("POST", asked.path, make_body(), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{asked.path} on port {asked.port} answered {answer.status}")
            times.append((time.perf_counter() - began) * 1000)
        connection.close()

    began = time.perf_counter()
    with ThreadPoolExecutor(asked.clients) as threads:
        list(threads.map(client, range(asked.clients)))
    return {"rate": len(times) * asked.items / (time.perf_counter() - began), "times": times}


def _bodies(asked: Load) -> Callable[[], str]:
    """Makes requests. Texts begin with a number, so that none is sent twice; pictures go round."""
    numbers = itertools.count(random.SystemRandom().randrange(10**9))
    body: dict = {"model": "m", "encoding_format": asked.kind}
    source = Path(asked.source)
    if source.is_dir():
        body["modality"] = "image"
        inputs = [_data_uri(path) for path in sorted(source.iterdir())]
    else:
        inputs = source.read_text(encoding="utf-8").splitlines()

    def item(number: int) -> str:
        found = inputs[number % len(inputs)]
        return found if source.is_dir() else f"{number} {found}"

    if asked.kind == "search":
        return lambda: json.dumps({"text": item(next(numbers)), "k": 10})
    return lambda: json.dumps(body | {"input": [item(next(numbers)) for _ in range(asked.items)]})


def _data_uri(path: Path) -> str:
    return f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode()}"


def load_from_another_process(asked: Load) -> dict:
    """`run_load` in a process of its own."""
    command = [sys.executable, __file__, json.dumps(asdict(asked))]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def mmseek_command(encoder: str, port: int, *options: str) -> list[str]:
    """How `mmseek serve` is started; clients call the encoder `m`."""
    return [sys.executable, "-m", "mmseek", "serve", "-e", encoder, "--name", "m", "--port", str(port), *options]


def infinity_command(program: Path, model: Path, port: int, *options: str) -> list[str]:
    """How infinity-emb is started on a model of this machine."""
    command = [str(program), "v2", "--model-id", str(model), "--engine", "torch", "--device", "cpu"]
    return [*command, "--no-bettertransformer", "--served-model-name", "m", "--port", str(port), *options]


@contextmanager
def server(command: Sequence[str], answers: Callable[[], None]) -> Iterator[subprocess.Popen[bytes]]:
    """A server that answers by the time that this is entered.

    Args:
        command: starts it.
        answers: raises OSError until it does.
    """
    log = Path(tempfile.gettempdir()) / f"serving.{os.getpid()}.{Path(command[0]).name}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(command, env={**os.environ, **_ENVIRONMENT}, stdout=file, stderr=file)
    try:
        for _ in range(1500):  # libraries take minutes to load on a busy machine
            if process.poll() is not None:
                raise SystemExit(f"{command[0]} ended with {process.returncode}: see {log}")
            try:
                answers()
                break
            except OSError:
                time.sleep(0.2)
        else:
            raise SystemExit(f"{command[0]} does not answer: see {log}")
        yield process
        log.unlink(missing_ok=True)
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def percentile(times: Sequence[float], share: float) -> float:
    """The value below which this share of them lies."""
    return sorted(times)[min(int(len(times) * share), len(times) - 1)]


def resident_bytes(process: int) -> int:
    """The memory of a process that is in use now (Linux)."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    print(json.dumps(run_load(Load(**json.loads(sys.argv[1])))))
