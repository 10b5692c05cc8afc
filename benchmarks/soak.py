"""Whether the service's memory stays flat under a mixed load.

    python benchmarks/soak.py [--minutes 10] [--warm 2] [--clients 8]

`mmseek serve` runs over a collection of `mini` in a process of its own. Closed-loop clients search by text and by
picture, embed, add documents under ids that come again, delete some, send damaged pictures, and hang up in the middle.
Its resident memory is sampled once a second. What is not judged are the first `--warm` minutes, in which models are
loaded and pools of threads and of SQLite's pages fill, and the cache of vectors, which is off, for it grows to its
bound by design. The service gives free memory back every half minute, so memory goes up and down; what is in use is
the lowest sample of a minute. The slope is that of a line through these, in MiB an hour, by least squares. `verdict` is
`flat` if no slope at all lies within twice its standard error, or if it is under 1 % of the memory an hour; `unclear`
if it is flat only because the error is over 10 % of the memory an hour; else `grows` or `shrinks`. `slope_of_all` is
that of a line through all samples. The last line of stdout is one line of JSON.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import io
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import PIL.Image
from serving import free_port, mmseek_command, percentile, resident_bytes, server

_IDS = 500
_WORDS = ("red", "blue", "green", "boat", "bicycle", "house", "tide", "table", "letter", "stone", "river", "night")


def picture(draw: random.Random, *, whole: bool = True) -> str:
    """A JPEG of its own as a data: URI."""
    buffer = io.BytesIO()
    size = (draw.randrange(32, 640), draw.randrange(32, 480))
    PIL.Image.new("RGB", size, tuple(draw.randrange(256) for _ in range(3))).save(buffer, "JPEG")
    data = buffer.getvalue() if whole else buffer.getvalue()[:-200]
    return f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"


def words(draw: random.Random) -> str:
    return " ".join(draw.choices(_WORDS, k=draw.randrange(1, 40)))


def requests(draw: random.Random) -> tuple[str, str, dict, set[int]]:
    """One request: name, address, body, and the statuses that are right."""
    kind = draw.choice(("search", "search picture", "embed", "embed", "add", "delete", "damaged"))
    if kind == "search":
        return kind, "/v1/search", {"text": words(draw), "mode": draw.choice(("dense", "hybrid"))}, {200}
    if kind == "search picture":
        return kind, "/v1/search", {"image": picture(draw), "text": words(draw)}, {200}
    if kind == "embed":
        return kind, "/v1/embeddings", {"input": [words(draw) for _ in range(draw.randrange(1, 16))]}, {200}
    if kind == "add":
        some = [{"id": f"d{draw.randrange(_IDS)}", "text": words(draw)} for _ in range(8)]
        unique = list({each["id"]: each for each in some}.values())
        unique[0]["image"] = picture(draw)
        return kind, "/v1/documents", {"documents": unique}, {200}
    if kind == "delete":
        return kind, "/v1/documents", {"ids": [f"d{draw.randrange(_IDS)}"]}, {200}
    return kind, "/v1/embeddings", {"input": [{"image": picture(draw, whole=False)}]}, {422}


class Clients:
    """Threads that ask until told to stop, and what they were answered."""

    def __init__(self, port: int, count: int) -> None:
        self.port = port
        self.over = threading.Event()
        self.answers: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self.times: list[float] = []
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        draw = random.Random(number)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        while not self.over.is_set():
            name, address, body, right = requests(draw)
            began = time.perf_counter()
            try:
                method = "DELETE" if name == "delete" else "POST"
                connection.request(method, address, json.dumps(body), {"Content-Type": "application/json"})
                if draw.random() < 0.02:  # hangs up without waiting
                    connection.close()
                    continue
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.wrong[f"{name}: {type(error).__name__}"] += 1
                connection.close()
                continue
            self.times.append((time.perf_counter() - began) * 1000)
            self.answers[name] += 1
            if answer.status not in right:
                self.wrong[f"{name}: {answer.status}"] += 1
        connection.close()


def slope(samples: list[tuple[float, float]]) -> tuple[float, float]:
    """MiB an hour of a line through (seconds, MiB), and its standard error."""
    hours, values = np.asarray([at for at, _ in samples]) / 3600, np.asarray([each for _, each in samples])
    design = np.stack([hours, np.ones_like(hours)], axis=1)
    found, *_ = np.linalg.lstsq(design, values, rcond=None)
    rest = values - design @ found
    variance = rest @ rest / max(len(values) - 2, 1) / max(((hours - hours.mean()) ** 2).sum(), 1e-12)
    return float(found[0]), float(variance**0.5)


def lows(samples: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The lowest sample of each whole minute."""
    minutes: dict[int, list[tuple[float, float]]] = {}
    for at, value in samples:
        minutes.setdefault(int(at // 60), []).append((at, value))
    return [min(each, key=lambda sample: sample[1]) for each in minutes.values() if len(each) > 30]


def judged(low: list[tuple[float, float]]) -> tuple[float, float, str]:
    """The slope of the lows, its error, and what they say."""
    found, error = slope(low)
    share = 0.01 * low[-1][1]
    if abs(found) <= share or (abs(found) <= 2 * error <= 10 * share):
        return found, error, "flat"
    return found, error, "unclear" if abs(found) <= 2 * error else "grows" if found > 0 else "shrinks"


def answers(port: int) -> None:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("GET", "/health/ready")
        if connection.getresponse().status != 200:
            raise OSError


def sample_memory(process: int, seconds: float, say: Callable[[str], None]) -> list[tuple[float, float]]:
    samples, began = [], time.monotonic()
    while (at := time.monotonic() - began) < seconds:
        samples.append((at, resident_bytes(process) / 1024**2))
        if len(samples) % 30 == 0:
            say(f"{at:.0f} s: {samples[-1][1]:.0f} MiB")
        time.sleep(1)
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--warm", type=float, default=2.0, help="minutes that are not judged, before the others")
    parser.add_argument("--clients", type=int, default=8)
    options = parser.parse_args()
    if options.minutes < 3:
        parser.error("a line needs three points: give --minutes 3 or more")
    with tempfile.TemporaryDirectory() as scratch:
        folder, items = Path(scratch, "index"), Path(scratch, "items.jsonl")
        draw = random.Random(0)
        items.write_text("".join(json.dumps({"id": f"d{n}", "text": words(draw)}) + "\n" for n in range(_IDS)))
        make = [sys.executable, "-m", "mmseek", "index", str(items), "--collection", str(folder)]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port = free_port()
        command = mmseek_command("", port)
        command[command.index("-e") : command.index("-e") + 2] = ["-c", str(folder)]
        with server(command, partial(answers, port)) as process, Clients(port, options.clients) as clients:
            say = partial(print, file=sys.stderr)
            warm = sample_memory(process.pid, options.warm * 60, say)
            samples = sample_memory(process.pid, options.minutes * 60 + 1, say)
    low = lows(samples)
    found, error, verdict = judged(low)
    print(
        json.dumps(
            {
                "benchmark": "soak",
                "minutes": options.minutes,
                "clients": options.clients,
                "requests": sum(clients.answers.values()),
                "by_kind": clients.answers,
                "wrong": clients.wrong,
                "p50_ms": round(percentile(clients.times, 0.5), 1),
                "p99_ms": round(percentile(clients.times, 0.99), 1),
                "mib_at_start": round((warm or samples)[0][1]),
                "mib_lows": [round(each) for _, each in low],
                "mib_most": round(max(each for _, each in samples)),
                "slope_mib_an_hour": round(found, 1),
                "slope_error": round(error, 1),
                "slope_of_all": round(slope(samples)[0], 1),
                "verdict": verdict,
            }
        )
    )


if __name__ == "__main__":
    main()
