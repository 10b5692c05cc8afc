"""What fewer visual tokens cost and gain: `?visual-tokens=` beside all tokens, the same weights and items.

    python benchmarks/visual_tokens.py [--items 8] [--rounds 2] [--steps 0]

Two models on Qwen2-VL, both read as `vlm2vec`:

- `random`: random weights, made here, pictures of 340 tokens, a language model with about nine tenths of the work;
  cosines to the vectors of all tokens, and how many times as fast `encoder.stream` is, beside all tokens in the same
  round (read the ratios as in `encode_text.py`);
- `trained`, with `--steps` above 0: the tiny model of `instruction_decides.py`, trained on its world of coloured shapes
  for so many steps; cosines, and hit@1 on combinations that it never saw, queries and documents with fewer tokens.

Random weights attend nearly evenly and pass on all there is, so their cosines say little about trained ones. The last
line of stdout is one line of JSON; the table goes to stderr.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from encode_families import make_qwen
from instruction_decides import hits, trained
from rich.console import Console
from rich.table import Table

from mmseek import Content, EncodeRequest, Image, load_encoder
from mmseek.evaluation import Dataset

# Of the language model; the vision tower stays small, as it is beside a language model of 7 billion parameters.
SHAPE = {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8}
AMOUNTS = [f"{share}:{method}" for method in ("merge", "rank", "rows") for share in (0.75, 0.5, 0.25)]


def make_items(count: int) -> list[Content]:
    """Pictures with something in them: noise of a few sizes, and a text."""
    random = np.random.default_rng(0)
    items = []
    for number in range(count):
        noise = random.integers(0, 255, (8 + 4 * (number % 4), 12, 3), dtype=np.uint8)
        picture = Image.from_pil(PIL.Image.fromarray(noise).resize((560, 476), PIL.Image.Resampling.BICUBIC))
        items.append(Content.of(picture, f"item {number}") if number % 2 else Content.of(picture))
    return items


def encoded(encoder: Any, items: list[Content]) -> np.ndarray:
    return np.stack([answer.vector for answer in encoder.stream(EncodeRequest(item) for item in items)])


def cosines(one: np.ndarray, other: np.ndarray) -> dict[str, float]:
    found = (one * other).sum(axis=1)
    return {"min_cosine": round(float(found.min()), 4), "mean_cosine": round(float(found.mean()), 4)}


def random_weights(folder: Path, count: int, rounds: int) -> dict[str, dict[str, float]]:
    items = make_items(count)
    plain = load_encoder(f"vlm2vec:{folder}", device="cpu")
    expected = encoded(plain, items)
    found: dict[str, dict[str, float]] = {}
    for amount in AMOUNTS:
        fewer = load_encoder(f"vlm2vec:{folder}?visual-tokens={amount}", device="cpu")
        rows, ratios = encoded(fewer, items), []
        for _ in range(rounds):
            marks = []
            for encoder in (plain, fewer):
                wall, cpu = time.perf_counter(), time.process_time()
                encoded(encoder, items)
                marks.append((time.perf_counter() - wall, time.process_time() - cpu))
            ratios.append([theirs / mine for theirs, mine in zip(*marks, strict=True)])
        wall, cpu = (statistics.median(column) for column in zip(*ratios, strict=True))
        found[amount] = {"wall": round(wall, 2), "cpu": round(cpu, 2), **cosines(rows, expected)}
        print(amount, found[amount], file=sys.stderr, flush=True)
    return found


def trained_weights(spec: str, data: Dataset) -> dict[str, dict[str, float]]:
    items = [document.content for document in data.corpus if document.content.images][:64]
    expected = encoded(load_encoder(spec, device="cpu"), items)
    found: dict[str, dict[str, float]] = {"all": hits(data, spec)}
    for amount in AMOUNTS:
        fewer = f"{spec}?visual-tokens={amount}"
        found[amount] = {**hits(data, fewer), **cosines(encoded(load_encoder(fewer, device="cpu"), items), expected)}
        print(amount, found[amount], file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=0)
    options = parser.parse_args()
    found: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        found["random"] = random_weights(make_qwen(Path(scratch, "random"), **SHAPE), options.items, options.rounds)
        if options.steps:
            spec, data, _ = trained(Path(scratch, "trained"), steps=options.steps)
            found["trained"] = trained_weights(spec, data)
    for model, rows in found.items():
        table = Table("tokens", *next(reversed(rows.values())), title=f"fewer visual tokens, {model} weights")
        for amount, row in rows.items():
            table.add_row(amount, *map(str, row.values()))
        Console(stderr=True).print(table)
    print(json.dumps({"benchmark": "visual_tokens", "items": options.items, "steps": options.steps, **found}))


if __name__ == "__main__":
    main()
