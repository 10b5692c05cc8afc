"""The heads of the default encoder, trained small; fresh crops; near-duplicates of evaluation pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmseek.embed.mini.correction import Correction
from mmseek.embed.mini.tower import ImageTower, TowerConfig
from mmseek.training.mini import crops, duplicates, finish, fresh, heads
from mmseek.training.mini.crops import CROP
from mmseek.training.mini.data import Picture
from mmseek.training.mini.heads import Plan, Requests, Shown

PLAN = Plan(hidden=16, fusion_hidden=16, steps=150, fusion_steps=150, rate=5e-3, dropout=0.0, pool=64, texts=64)
COUNT, VIEWS, SEEN, DIM = 24, 2, 20, 12


def unit(*shape: int, seed: int) -> torch.Tensor:
    rows = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(rows, dim=-1)


@pytest.fixture(scope="module")
def shown() -> Shown:
    """Pictures of which `seen` holds what the text says, and the vectors nothing."""
    texts = unit(COUNT, DIM, seed=0)
    seen = torch.cat([texts, 1 + unit(COUNT, SEEN - DIM, seed=1)], dim=1)
    return Shown(
        seen[:, None].expand(-1, VIEWS, -1).contiguous(), unit(COUNT, VIEWS, DIM, seed=2), texts, torch.eye(COUNT)
    )


@pytest.fixture(scope="module")
def photos() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.cat([unit(80, DIM, seed=3), -1 + unit(80, SEEN - DIM, seed=4)], dim=1), unit(80, DIM, seed=5)


@pytest.fixture(scope="module")
def correction(shown: Shown, photos: tuple[torch.Tensor, torch.Tensor]) -> Correction:
    return heads.train_correction([shown], photos, PLAN, 0)


def found(scores: torch.Tensor) -> float:
    return float((scores.argmax(dim=1) == torch.arange(len(scores))).float().mean())


def test_the_correction_finds_what_is_seen_and_leaves_photos(
    correction: Correction, shown: Shown, photos: tuple[torch.Tensor, torch.Tensor]
) -> None:
    before = found(shown.texts @ shown.vectors[:, 0].T)
    after = found(shown.texts @ heads.corrected(correction, shown)[:, 0].T)
    assert before < 0.3
    assert after > 0.8
    seen, vectors = photos
    with torch.no_grad():
        assert float((correction(vectors, seen) * vectors).sum(1).mean()) > 0.97


def test_shifting_the_gate_closes_it(correction: Correction, shown: Shown) -> None:
    closed = Correction(SEEN, PLAN.hidden, DIM).eval()
    closed.load_state_dict(correction.state_dict())
    heads.shift_gate(closed, -100)
    assert torch.allclose(heads.corrected(closed, shown), shown.vectors, atol=1e-5)


def test_the_fusion_learns_the_change_and_keeps_other_sums() -> None:
    """A request turns a vector by a step that its text tells; other texts beside pictures mean their sum."""
    pool = unit(20, DIM, seed=6)[:, None].expand(-1, VIEWS, -1).contiguous()
    asked = torch.arange(20)
    request = unit(1, DIM, seed=7).expand(20, -1)
    relevant = torch.eye(20).roll(1, dims=1)
    others = (unit(60, DIM, seed=8), unit(60, DIM, seed=9))
    plan = replace(PLAN, gate=0.2, fusion_keep=1.0)
    requests = Requests(asked, request, relevant, torch.eye(20, dtype=torch.bool))
    fusion = heads.train_fusion(requests, pool, others, plan, 0)
    with torch.no_grad():
        scores = (fusion(pool[:, 0], request) @ pool[:, 0].T).masked_fill(requests.excluded, -1)
        plain = torch.nn.functional.normalize(sum(others), dim=-1)
        kept = float((fusion(*others) * plain).sum(1).mean())
    assert float((scores.argmax(1) == (asked + 1) % 20).float().mean()) > 0.8
    assert kept > 0.9


def test_heads_leave_the_tower_as_it_was() -> None:
    config = TowerConfig(size=16, stem=4, widths=(4,), depths=(1,), features=8, classes=5, dim=DIM, fused=True)
    tower = ImageTower(config).eval()
    seen = config.features + heads.colours(torch.zeros(1, 8, 8, 3)).shape[1]
    made = heads.assemble(tower, Correction(seen, 16, DIM), heads.Fusion(DIM, 16), PLAN)
    pictures = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8))
    with torch.no_grad():
        assert torch.allclose(heads.bare(made)(pictures), tower(pictures), atol=1e-6)
        assert torch.allclose(made.outputs(pictures).plain, tower(pictures), atol=1e-6)


def test_a_product_is_described_by_its_colour_and_kind() -> None:
    metadata = {"name": "Mona Pullover Hoodie", "color": "Green", "category": "Women/Tops/Hoodies", "view": "main"}
    said = heads.more_texts("apparel_women", metadata)
    assert said == ["Green Hoodie", "Green Hoodies", "a green hoodie", "Hoodies"]
    assert heads.more_texts("emoji", metadata) == []
    assert heads.more_texts("aerial_ucm", {"captions": ["a", "b"]}) == ["a", "b"]


def noise(seed: int, size: tuple[int, int] = (60, 40)) -> Image.Image:
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize(size, Image.Resampling.BICUBIC)


def picture(tmp_path: Path, seed: int, source: str = "emoji") -> Picture:
    noise(seed).save(tmp_path / f"{seed}.png")
    return Picture(source, str(seed), (tmp_path / f"{seed}.png").read_bytes())


def test_views_are_whole_first_and_repeat_themselves() -> None:
    views = heads.draw_views(noise(1), 32, np.random.default_rng(0))
    assert views.shape == (heads.VIEWS, 32, 32, 3)
    assert np.array_equal(views[0][:, ::-1], views[1])
    assert np.array_equal(views, heads.draw_views(noise(1), 32, np.random.default_rng(0)))


def test_fresh_crops_differ_and_carry_their_pictures_numbers(tmp_path: Path) -> None:
    pictures = [picture(tmp_path, seed) for seed in range(5)]
    prepared = fresh.prepare(pictures, [1, 3])
    crops, rows = fresh.draw(prepared, 40, torch.Generator().manual_seed(0))
    assert crops.shape == (40, CROP, CROP, 3)
    assert set(rows.tolist()) == {1, 3}
    own = crops[rows == 1]
    assert len(own.flatten(1).unique(dim=0)) > len(own) // 2


def test_a_small_set_is_drawn_oftener(tmp_path: Path) -> None:
    many = [picture(tmp_path, 0)] * 16 + [picture(tmp_path, 1, "aerial_ucm")]
    _, rows = fresh.draw(fresh.prepare(many, list(range(17))), 2000, torch.Generator().manual_seed(0))
    assert float((rows == 16).float().mean()) == pytest.approx(1 / 5, abs=0.04)


def test_near_duplicates_are_found_and_others_are_not(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "qrels").mkdir(parents=True)
    noise(0, (90, 60)).save(folder / "0.jpg", quality=60)  # another size and format of picture 0
    noise(9).save(folder / "9.png")
    rows = [{"id": "a", "image": "0.jpg"}, {"id": "b", "image": "9.png"}]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq\ta\t1\nq\tb\t1\n", encoding="utf-8")

    def featurise(pictures: np.ndarray) -> np.ndarray:
        return pictures[:, ::20, ::20].reshape(len(pictures), -1).astype(np.float32) - 127

    pictures = [picture(tmp_path, seed) for seed in range(4)]
    found_ = duplicates.find_duplicates(pictures, [folder], featurise)
    assert found_.rows == (0,)
    assert found_.counts == {"set": {"emoji": 1}}


def test_half_of_the_way_lies_between_two_towers() -> None:
    config = TowerConfig(size=16, stem=4, widths=(4,), depths=(1,), features=8, classes=5, dim=DIM)
    first, second = ImageTower(config), ImageTower(config)
    half = finish.blended(first, second, 0.5)
    expected = (first.classifier.weight + second.classifier.weight) / 2
    assert torch.allclose(half.classifier.weight, expected, atol=1e-6)
    assert torch.equal(finish.blended(first, second, 0).stem.conv.weight, first.stem.conv.weight)


def test_finished_views_of_another_seed_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "done_0.json").write_text('{"seed": 1}', encoding="utf-8")
    with pytest.raises(ValueError, match="another folder with --work"):
        crops.build_set([], tmp_path, tmp_path, 0, seed=2, workers=1)
