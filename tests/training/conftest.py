"""Tiny checkpoints, and rows to train them on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from mmseek.training import tiny_families
from mmseek.training.configuring import from_mapping, overridden
from mmseek.training.settings import TrainConfig
from mmseek.training.tiny import tiny_clip, tiny_qwen_vl

Configure = Callable[..., TrainConfig]
PUT_TOGETHER = ("mm-embed", "mme5", "notellm2", "colqwen2", "colpali")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """By the name of a family, a tiny checkpoint that it loads."""
    made: dict[str, Path] = {}
    kinds = {"vlm2vec": "qwen2_vl", "gme": "qwen2_vl", "vlm2vec-2.5": "qwen2_5_vl", "qwen3-vl": "qwen3_vl"}

    whole = {name: getattr(tiny_families, f"tiny_{name.replace('-', '_')}") for name in PUT_TOGETHER}

    def make(family: str) -> Path:
        kind = family if family in whole else kinds.get(family, "clip")
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            if kind in whole:
                whole[kind](folder)
            else:
                tiny_clip(folder) if kind == "clip" else tiny_qwen_vl(folder, kind)
            made[kind] = folder
        return made[kind]

    return make


@pytest.fixture(scope="session")
def triples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve rows: a text asks for a picture; a text and another picture are hard negatives."""
    folder = tmp_path_factory.mktemp("rows")
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for number in range(12):
        PIL.Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(folder / f"{number}.png")
        rows.append(
            {
                "id": f"row{number}",
                "query": {"text": f"picture {number} " + "and more " * (number % 3)},
                "positives": [{"image": f"{number}.png"}],
                "negatives": [{"text": f"not {number}"}, {"image": f"{(number + 5) % 12}.png"}],
                "instruction": "Find it:",
                "scores": [2.0, -1.0, 0.5],
            }
        )
    path = folder / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.fixture
def configure(checkpoints: Callable[[str], Path], triples: Path, tmp_path: Path) -> Configure:
    """A configuration of a few steps; changes are `a.b=value`, as in `--set`."""

    def make(family: str = "uniir-clip-sf", *changes: str) -> TrainConfig:
        settings: dict[str, Any] = {
            "model": {"encoder": f"{family.removesuffix('-2.5')}:{checkpoints(family)}"},
            "data": {"sources": [{"path": str(triples)}], "negatives": 1},
            "batch": {"size": 4},
            "optimizer": {"rate": 1e-3},
            "schedule": {"steps": 3},
            "run": {"output": str(tmp_path / "run"), "device": "cpu", "save_every": 0, "tensorboard": False},
        }
        return from_mapping(TrainConfig, overridden(settings, changes))

    return make
