"""Weights merged by weighting them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mmseek import Content, load_encoder
from mmseek.errors import InputError, ModelError
from mmseek.training.merge import merge
from mmseek.training.tiny import tiny_clip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return [tiny_clip(tmp_path_factory.mktemp(f"model{seed}"), seed=seed) for seed in range(2)]


@pytest.mark.parametrize(("weights", "share"), [(None, 0.5), ([3.0, 1.0], 0.75), ([1.0, 0.0], 1.0)])
def test_the_mean_of_two_models_loads(
    models: list[Path], tmp_path: Path, weights: list[float] | None, share: float
) -> None:
    output = tmp_path / "merged"
    merge(models, output, weights)
    one, other, found = (load_file(folder / "model.safetensors") for folder in (*models, output))
    assert found.keys() == one.keys()
    for name, value in found.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, share * one[name] + (1 - share) * other[name])
    vectors = [
        load_encoder(f"clip:{folder}", device="cpu").encode_document([Content.of("a")])
        for folder in (models[0], output)
    ]
    assert (vectors[0] == vectors[1]).all() == (share == 1.0)


def test_what_does_not_fit_is_refused(models: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least two"):
        merge(models[:1], tmp_path / "out")
    with pytest.raises(InputError, match="as many weights"):
        merge(models, tmp_path / "out", [1.0])
    with pytest.raises(InputError, match="sum is not 0"):
        merge(models, tmp_path / "out", [1.0, -1.0])
    with pytest.raises(InputError, match="exists already"):
        merge(models, models[0])
    with pytest.raises(ModelError, match="another shape"):
        merge([models[0], tiny_clip(tmp_path / "wide", dim=32)], tmp_path / "out")
    with pytest.raises(ModelError, match="merge checkpoints of one model"):
        merge([models[0], tiny_clip(tmp_path / "deep", layers=3)], tmp_path / "out")
    assert not (tmp_path / "out").exists()
