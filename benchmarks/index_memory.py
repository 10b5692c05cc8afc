"""Does the memory of indexing grow with the corpus? Peak RSS for N and 4N items, each in a process of its own.

    python benchmarks/index_memory.py [--items 20000] [--kind text|picture]

Real reader, pipeline and collection; the encoder is the fake one (384 dimensions), so that only what grows is seen.
Prints JSON. `growth_bytes_per_item` is the slope between the two; a vector of 384 float32 has 1536 bytes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

DIM = 384


def peak_bytes() -> int:
    """Peak RSS of this process. Not from getrusage, which starts with the peak of the process that started it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this benchmark needs /proc (Linux)")


def write_corpus(folder: Path, items: int, kind: str) -> Path:
    import PIL.Image

    with (folder / "corpus.jsonl").open("w") as file:
        for number in range(items):
            item = {"id": f"item-{number:08d}", "text": f"{number} " + "some words of text " * 50}
            if kind == "picture":
                item["image"] = f"{number}.png"
                colour = (number % 256, number // 256 % 256, number // 65536)
                PIL.Image.new("RGB", (32, 32), colour).save(folder / f"{number}.png")
            file.write(json.dumps(item) + "\n")
    return folder / "corpus.jsonl"


def index(corpus: Path, location: Path) -> None:
    """Index in this process; print its peak before and after."""
    from mmseek.index import open_collection
    from mmseek.index.corpus import read_corpus
    from mmseek.pipeline import index_corpus
    from mmseek.testing import FakeEncoder

    encoder = FakeEncoder(dim=DIM)
    collection = open_collection(location, mode="create", encoder=encoder.identity)
    before = peak_bytes()
    report = index_corpus(read_corpus(corpus), encoder, collection)
    peak = peak_bytes()
    collection.close()
    print(json.dumps({"items": report.indexed, "before_bytes": before, "peak_bytes": peak, "seconds": report.seconds}))


def measure(items: int, kind: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        corpus = write_corpus(Path(name), items, kind)
        command = [sys.executable, __file__, "--index", str(corpus), "--location", str(Path(name) / "collection")]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found: dict[str, float] = json.loads(done.stdout)
        return found | {"corpus_bytes": corpus.stat().st_size}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--kind", choices=["text", "picture"], default="text")
    parser.add_argument("--index", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--location", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.index is not None:
        index(arguments.index, arguments.location)
        return
    small, large = measure(arguments.items, arguments.kind), measure(4 * arguments.items, arguments.kind)
    growth = (large["peak_bytes"] - small["peak_bytes"]) / (large["items"] - small["items"])
    result = {
        "benchmark": "index_memory",
        "kind": arguments.kind,
        "runs": [small, large],
        "growth_bytes_per_item": round(growth, 1),
        "vector_bytes_per_item": DIM * 4,
        "within_vectors": growth <= DIM * 4,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
