"""What ends or starves a server of embeddings: the same poison for `mmseek serve` and for infinity-emb.

    python -m venv /tmp/infinity && /tmp/infinity/bin/pip install 'infinity-emb[server,torch,vision]==0.0.78'
    python benchmarks/faults_beside_infinity.py --infinity /tmp/infinity/bin/infinity_emb [--idle 10000]

Both serve one CLIP model with random weights and small towers: this is about what breaks, not about speed. For each
poison: what was answered and after how long, how much the server's memory grew, whether a good picture was encoded
within `--patience` seconds afterwards (the poison itself has four times as long), what `/health` said then, and whether
SIGTERM ended the process. A server that is wedged is killed and started anew before the next poison. The last line of
stdout is one line of JSON.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import io
import json
import os
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import PIL.Image
from encode_clip import make_model
from rich.console import Console
from rich.table import Table
from serving import free_port, infinity_command, mmseek_command, resident_bytes, server

PATHS = {"mmseek": "/v1/embeddings", "infinity": "/embeddings"}
TOWER = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}


def picture(side: int, kind: str, colour: tuple[int, int, int] = (200, 30, 30)) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (side, side), colour).save(buffer, kind)
    return buffer.getvalue()


def one_bit_png(side: int) -> bytes:
    """Small as a file, huge once decoded."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    rows = zlib.compress(b"\0" * ((side // 8 + 2) * side), 9)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def body_of(*pictures: bytes) -> bytes:
    uris = [f"data:image/png;base64,{base64.b64encode(data).decode()}" for data in pictures]
    return json.dumps({"model": "m", "input": uris, "modality": "image"}).encode()


GOOD = body_of(picture(64, "PNG"))
POISON: dict[str, bytes] = {
    "truncated JPEG": body_of(picture(256, "JPEG")[:-300]),
    "13000 x 13000 one-bit PNG": body_of(one_bit_png(13_000)),
    "empty body": b"",
    "1,000 tiny pictures": body_of(*(picture(4, "PNG", (n % 256, n // 256, 7)) for n in range(1000))),
}


class Peer:
    """A server under test, started when it is first asked and after each time that it had to be killed."""

    def __init__(self, name: str, command: Callable[[int], list[str]], patience: float) -> None:
        self.name, self.patience = name, patience
        self._command = command
        self.process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def start(self) -> None:
        if self.process is None:
            self.port = free_port()
            self._context = server(self._command(self.port), self._answers)
            self.process = self._context.__enter__()

    def _answers(self) -> None:
        if self.post(GOOD, 120)[0] != "200":
            raise OSError

    def post(self, body: bytes, timeout: float) -> tuple[str, float]:
        """The status, or what became of the request, and the seconds until then."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        began = time.perf_counter()
        try:
            connection.request("POST", PATHS[self.name], body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            found = str(answer.status)
        except TimeoutError:
            found = "no answer"
        except ConnectionRefusedError:
            raise
        except (OSError, http.client.HTTPException) as error:
            found = type(error).__name__
        finally:
            connection.close()
        return found, time.perf_counter() - began

    def health(self) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.patience)
        try:
            connection.request("GET", "/health")
            return str(connection.getresponse().status)
        except OSError as error:
            return type(error).__name__
        finally:
            connection.close()

    def end(self) -> str:
        """SIGTERM, and SIGKILL if that is not enough."""
        process = self.process
        if process is None:
            return "was dead"
        began = time.perf_counter()
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(self.patience)
            said = f"after {time.perf_counter() - began:.1f} s"
        except subprocess.TimeoutExpired:
            said = "never: killed"
            process.kill()
            process.wait()
        self._context.__exit__(None, None, None)
        self.process = None
        return said


@contextmanager
def growth(process: int) -> Iterator[list[float]]:
    """The most MiB that a process held more than before, sampled while this is open."""
    before, found, over = resident_bytes(process), [0.0], threading.Event()

    def sample() -> None:
        while not over.wait(0.02):
            found[0] = max(found[0], (resident_bytes(process) - before) / 1024**2)

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def try_poison(peer: Peer, body: bytes) -> dict:
    peer.start()
    assert peer.process is not None
    with growth(peer.process.pid) as grew:
        answer, seconds = peer.post(body, 4 * peer.patience)
    return {"answer": answer, "seconds": round(seconds, 2), "grew_mib": round(grew[0])} | afterwards(peer)


def try_idle(peer: Peer, count: int) -> dict:
    """Connections of which a third sent half a header, and a third half a body."""
    peer.start()
    assert peer.process is not None
    head = b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" % PATHS[peer.name].encode()
    held = []
    with growth(peer.process.pid) as grew:
        for number in range(count):
            try:
                held.append(socket.create_connection(("127.0.0.1", peer.port), timeout=peer.patience))
                held[-1].sendall((b"", head, head + b"Content-Length: 100\r\n\r\n{")[number % 3])
            except OSError:
                break
        time.sleep(1)
    found = {"answer": f"{len(held)} held", "seconds": 0.0, "grew_mib": round(grew[0])} | afterwards(peer, end=False)
    found["ends"] = peer.end() if found["serves"] != "200" else ""
    for connection in held:
        connection.close()
    return found


def afterwards(peer: Peer, *, end: bool = True) -> dict:
    try:
        serves = peer.post(GOOD, peer.patience)[0]
        health = peer.health()
    except ConnectionRefusedError:
        serves = health = "refused"
    return {"serves": serves, "health": health, "ends": peer.end() if end and serves != "200" else ""}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--infinity", type=Path, required=True, help="infinity_emb of an environment of its own")
    parser.add_argument("--idle", type=int, default=10_000, help="connections that do nothing")
    parser.add_argument("--patience", type=float, default=20.0, help="seconds until an answer counts as none")
    options = parser.parse_args()
    rows: list[dict] = []
    console = Console(stderr=True, width=160)

    def note(poison: str, name: str, found: dict) -> None:
        rows.append({"poison": poison, "server": name} | found)
        console.print(rows[-1])

    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch, "model")
        model.mkdir()
        make_model(model, TOWER)
        commands: dict[str, Callable[[int], list[str]]] = {
            "mmseek": lambda port: mmseek_command(f"clip:{model}", port),
            "infinity": lambda port: infinity_command(options.infinity, model, port, "--no-model-warmup"),
        }
        for name, command in commands.items():
            peer = Peer(name, command, options.patience)
            for poison, body in POISON.items():
                note(poison, name, try_poison(peer, body))
            note("idle connections", name, try_idle(peer, options.idle))
            peer.start()
            note("none", name, afterwards(peer, end=False) | {"ends": peer.end()})
    table = Table("poison", "server", "answer", "seconds", "MiB more", "serves after", "/health", "ends on SIGTERM")
    for row in sorted(rows, key=lambda row: row["poison"]):
        table.add_row(
            *(str(row.get(key, "")) for key in ("poison", "server", "answer", "seconds", "grew_mib")),
            *(str(row[key]) for key in ("serves", "health", "ends")),
        )
    console.print(table)
    print(json.dumps({"benchmark": "faults_beside_infinity", "files": os.sysconf("SC_OPEN_MAX"), "rows": rows}))


if __name__ == "__main__":
    main()
