"""What follows the image tower: the spread of colours, the correction, and the fusion of picture and text."""

from __future__ import annotations

import colorsys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmseek.embed.mini.colours import COLOURS, colours
from mmseek.embed.mini.correction import Correction, Fusion
from mmseek.embed.mini.tower import ImageTower, TowerConfig, load_tower, read_header, save_tower

SMALL = TowerConfig(size=16, stem=4, widths=(4,), depths=(1,), features=8, classes=5, dim=12, fused=True)
Byte = st.integers(0, 255)


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=-1)


def stirred(module: torch.nn.Module) -> torch.nn.Module:
    """Weights drawn anew, so that nothing is zero."""
    torch.manual_seed(1)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return module.eval()


@given(Byte, Byte, Byte)
def test_a_colour_falls_where_hue_saturation_and_value_say(red: int, green: int, blue: int) -> None:
    shares = colours(torch.tensor([red, green, blue], dtype=torch.uint8).expand(1, 8, 8, 3))[0]
    hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
    steps = [min(int(part * count + 1e-4), count - 1) for part, count in ((hue, 12), (saturation, 3), (value, 3))]
    expected = (steps[0] * 3 + steps[1]) * 3 + steps[2]
    assert torch.nonzero(shares).flatten().tolist() == [expected, expected + COLOURS // 2]


def test_colours_are_shares_of_the_whole_and_of_the_inner_half() -> None:
    picture = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    picture[:, 2:6, 2:6, 0] = 255  # red in the middle, on black
    whole, inner = colours(picture)[0].square().chunk(2)
    assert sorted(whole[whole > 0].tolist()) == pytest.approx([0.25, 0.75])
    assert inner[inner > 0].tolist() == pytest.approx([1.0])
    assert torch.equal(colours(picture), colours(picture.float()))


def test_an_untrained_correction_changes_nothing_and_a_trained_one_stays_on_the_sphere() -> None:
    head, vectors, seen = Correction(20, 6, 12), unit(3, 12), torch.randn(3, 20)
    assert torch.allclose(head.eval()(vectors, seen), vectors, atol=1e-6)
    moved = stirred(head)(vectors, seen)
    assert not torch.allclose(moved, vectors, atol=1e-2)
    assert torch.allclose(moved.norm(dim=1), torch.ones(3), atol=1e-5)


def test_a_closed_gate_leaves_the_vector_and_the_sum() -> None:
    correction, fusion = stirred(Correction(20, 6, 12)), stirred(Fusion(12, 6))
    assert isinstance(correction, Correction)
    assert isinstance(fusion, Fusion)
    vectors, texts = unit(3, 12), unit(3, 12, seed=2)
    with torch.no_grad():
        for gate in (correction.gate[-1], fusion.gate):
            assert isinstance(gate, torch.nn.Linear)
            gate.weight.zero_()
            gate.bias.fill_(-100.0)
    assert torch.allclose(correction(vectors, torch.randn(3, 20)), vectors, atol=1e-6)
    plain = torch.nn.functional.normalize(vectors + texts, dim=-1)
    assert torch.allclose(fusion(vectors, texts), plain, atol=1e-6)


def test_a_tower_without_a_fusion_composes_by_the_sum() -> None:
    vectors, texts = unit(2, 12), unit(2, 12, seed=2)
    plain = torch.nn.functional.normalize(vectors + texts, dim=-1)
    assert torch.allclose(ImageTower(SMALL).compose(vectors, texts), plain)
    with_fusion = stirred(ImageTower(replace(SMALL, fusion=6)))
    assert isinstance(with_fusion, ImageTower)
    assert not torch.allclose(with_fusion.compose(vectors, texts), plain, atol=1e-2)


@torch.inference_mode()
def test_both_heads_come_back_from_the_file(tmp_path: Path) -> None:
    made = stirred(ImageTower(replace(SMALL, correction=6, fusion=6)))
    assert isinstance(made, ImageTower)
    save_tower(made, tmp_path / "t.safetensors")
    loaded = load_tower(tmp_path / "t.safetensors")
    assert read_header(tmp_path / "t.safetensors")["version"] == "2"
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), dtype=np.uint8))
    assert torch.allclose(loaded(pictures), made(pictures), atol=2e-2)
    assert not torch.allclose(loaded.outputs(pictures).plain, loaded(pictures), atol=1e-2)
    vectors = unit(2, 12)
    assert torch.allclose(loaded.compose(vectors, vectors), made.compose(vectors, vectors), atol=2e-2)


def test_the_shipped_tower_has_both_heads_and_files_without_them_still_load(tmp_path: Path) -> None:
    shipped = load_tower()
    assert shipped.correction is not None
    assert shipped.fusion is not None
    save_tower(ImageTower(SMALL).eval(), tmp_path / "old.safetensors")
    assert load_tower(tmp_path / "old.safetensors").correction is None
