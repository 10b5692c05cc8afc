"""What the proofs of training on real data share: small copies of pictures, a training run, means with intervals."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch

from mmseek._types import Content, Encoded, EncodeRequest, EncoderIdentity
from mmseek.evaluation.metrics import bootstrap
from mmseek.training.configuring import from_mapping
from mmseek.training.families import load_trainable
from mmseek.training.features import Features
from mmseek.training.run import Run
from mmseek.training.settings import TrainConfig

# What `mini` sees has 112; reading the originals anew at every step would be most of the time.
SIDE = 128
# All but the correction, which sees what the tower gives. A fusion of picture and text stays as it is, too.
FROZEN = r"^(?!correction\.)"


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write a JSONL file."""
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    return path


def shrunk(source: Path, target: Path) -> None:
    """A picture squashed to `SIDE`, as `mini` squashes it anyway."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with PIL.Image.open(source) as picture:
        picture.convert("RGB").resize((SIDE, SIDE), PIL.Image.Resampling.BICUBIC).save(target)


def train(
    encoder: str,
    triples: Path,
    output: Path,
    *,
    steps: int,
    negatives: int,
    batch: int,
    rate: float,
    temperature: float,
    seed: int = 0,
    features: Path,
) -> tuple[str, float]:
    """Train the correction of `mini` by what `mmseek train` runs, its tower frozen and its outputs kept in `features`.

    The spec of what came out, and the minutes that it took.
    """
    settings = {
        "model": {"encoder": encoder, "freeze": [FROZEN]},
        "data": {"negatives": negatives, "sources": [{"path": str(triples)}]},
        "batch": {"size": batch},
        "loss": {"temperature": temperature},
        "optimizer": {"rate": rate},
        "schedule": {"steps": steps, "warmup": min(10, steps // 4)},
        "run": {
            "output": str(output),
            "device": "cpu",
            "save_every": 0,
            "tensorboard": False,
            "seed": seed,
            "features": str(features),
        },
    }
    began = time.monotonic()
    trained = Run(from_mapping(TrainConfig, settings)).start(
        lambda r: None if r.step % 100 else print(output.name, r.step, round(r.loss, 3), file=sys.stderr, flush=True)
    )
    return trained.spec, round((time.monotonic() - began) / 60, 2)


class KeptEncoder:
    """An encoder of `mini` for rankings, whose tower need not see again what is kept in a file.

    Args:
        spec: of `mini`.
        features: the file.
    """

    def __init__(self, spec: str, features: Path) -> None:
        self._trainable = load_trainable(spec, device="cpu")
        self._trainable.inner.requires_grad_(requires_grad=False).eval()
        self._features = Features(self._trainable, features)

    @property
    def identity(self) -> EncoderIdentity:
        return self._trainable.encoder.identity

    def encode_query(self, contents: list[Content], instruction: str | None = None) -> np.ndarray:
        raise NotImplementedError

    def encode_document(self, contents: list[Content]) -> np.ndarray:
        raise NotImplementedError

    @torch.no_grad()
    def stream(self, requests: Iterable[EncodeRequest]) -> Iterator[Encoded]:
        source = iter(requests)
        while shard := list(islice(source, 1024)):
            self._features.fill(shard)
            rows = self._trainable.vectors([self._features.prepare(each) for each in shard])
            yield from (Encoded(row) for row in rows.numpy())


def told(values: np.ndarray, names: Sequence[str]) -> dict[str, list[float]]:
    """Mean, and the low and high end of its 95 % interval, of each column of (queries, names)."""
    low, high = bootstrap(values)
    parts = zip(names, values.mean(axis=0), low, high, strict=True)
    return {name: [round(float(each), 3) for each in rest] for name, *rest in parts}
