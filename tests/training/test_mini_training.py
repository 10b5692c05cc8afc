"""The training of the image tower, small: generated pictures, a stub teacher, a stub text encoder, seconds."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from mmseek.embed.mini.tower import ImageTower, TowerConfig, load_tower, preprocess_batch, save_tower
from mmseek.training.mini import crops, finish, loop, measure, targets
from mmseek.training.mini.data import Picture
from mmseek.training.mini.losses import Objective

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220), "white": (240, 240, 240)}
LABELS = list(COLOURS)
DIM, FEATURES = 16, 12
CONFIG = TowerConfig(size=32, stem=8, widths=(8, 16), depths=(1, 1), features=16, classes=len(LABELS), dim=DIM)


def picture(colour: str, number: int) -> Picture:
    rng = np.random.default_rng(number)
    pixels = np.clip(np.array(COLOURS[colour]) + rng.normal(0, 12, (24, 30, 3)), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    if number % 4 == 3:
        return Picture("emoji", f"{colour}{number}", file.getvalue(), "", (f"a {colour} thing",))
    return Picture("tiny_imagenet", f"{colour}{number}", file.getvalue(), colour)


PICTURES = [picture(colour, number) for number in range(8) for colour in COLOURS]


def encode(texts: list[str]) -> Tensor:
    """A text is where its colour is: three texts of one colour are near each other."""
    basis = torch.linalg.qr(torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(1)))[0]
    vectors = []
    for text in texts:
        own = next(i for i, colour in enumerate(LABELS) if colour in text)
        vectors.append(basis[own] + 0.1 * basis[4 + len(text) % 8])
    return torch.nn.functional.normalize(torch.stack(vectors), dim=-1)


def stub_features(pictures: np.ndarray) -> np.ndarray:
    """Mean colour, spread over the features."""
    mean = pictures.reshape(len(pictures), -1, 3).mean(1) / 255
    return np.tile(mean, (1, FEATURES // 3)).astype(np.float16)


def stub_classifier() -> tuple[Tensor, Tensor]:
    """Class logits that name the nearest colour."""
    centres = torch.tensor([[v / 255 for v in COLOURS[name]] for name in LABELS])
    weight = (centres - 0.5).repeat(1, FEATURES // 3) * 6
    return weight, -weight.abs().sum(1) * 0


@pytest.fixture
def views(tmp_path: Path) -> crops.CropSet:
    crops.allocate(tmp_path, 0, len(PICTURES), FEATURES)
    crops.fill(PICTURES, range(len(PICTURES)), (0, 0), stub_features, tmp_path)
    crops.finish(tmp_path, 0, {})
    return crops.open_set(tmp_path, 0)


def make(views: crops.CropSet) -> tuple[Objective, Tensor]:
    torch.manual_seed(0)
    wanted = targets.build_targets(PICTURES, LABELS, encode)
    tower = ImageTower(CONFIG)
    tower.label_vectors.copy_(wanted.label_vectors)
    sample = torch.from_numpy(views.features.astype(np.float32))
    objective = Objective(tower, wanted, stub_classifier(), (sample.mean(0), sample.std(0) + 1e-3))
    return objective, torch.nonzero(~wanted.photo).flatten()


def train(views: crops.CropSet, steps: int) -> tuple[ImageTower, list[dict[str, float]]]:
    objective, captioned = make(views)
    reports: list[dict[str, float]] = []
    schedule = loop.Schedule(
        minutes=0, steps=steps, batch=16, warmup_steps=3, report_seconds=0, sizes=((0.0, 24), (0.5, 32)), average=0.9
    )
    tower, state = loop.run(objective, [views], captioned, schedule, lambda _a, _s, terms: reports.append(terms))
    assert state.step == steps
    return tower, reports


def test_training_learns_to_find_colours_and_the_shipped_file_keeps_it(views: crops.CropSet, tmp_path: Path) -> None:
    tower, reports = train(views, 60)
    assert reports[-1]["classes"] < reports[0]["classes"]
    assert reports[-1]["embedding"] < reports[0]["embedding"]
    held = measure.held_out([p for p in PICTURES if p.label], encode, CONFIG.size)
    final, tried = finish.choose(finish.fused(tower), tower.label_vectors.clone(), held)
    assert tried[0].score == max(choice.score for choice in tried)
    assert tried[0].score > 0.9
    save_tower(final, tmp_path / "tower.safetensors", {"seed": "0"})
    loaded = load_tower(tmp_path / "tower.safetensors")
    assert measure.score_held_out(loaded, held) == pytest.approx(tried[0].score, abs=0.02)
    untrained = finish.fused(ImageTower(CONFIG))
    assert measure.score_held_out(untrained, held) < 0.7


def test_a_fused_tower_gives_the_vectors_of_the_unfused(views: crops.CropSet) -> None:
    tower, _ = train(views, 10)
    batch = torch.from_numpy(preprocess_batch([p.open() for p in PICTURES[:6]], CONFIG.size))
    with torch.inference_mode():
        assert torch.allclose(finish.fused(tower)(batch), tower(batch), atol=1e-5)


def test_training_repeats_itself(views: crops.CropSet) -> None:
    first, _ = train(views, 5)
    second, _ = train(views, 5)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_views_do_not_depend_on_how_the_work_is_split(tmp_path: Path) -> None:
    for folder, spans in (("one", [range(32)]), ("two", [range(20, 32), range(20)])):
        crops.allocate(tmp_path / folder, 0, len(PICTURES), FEATURES)
        for span in spans:
            crops.fill(PICTURES, span, (0, 0), stub_features, tmp_path / folder)
    one, two = crops.open_set(tmp_path / "one", 0), crops.open_set(tmp_path / "two", 0)
    assert np.array_equal(one.crops, two.crops)
    assert np.array_equal(one.features, two.features)
    assert 0 < one.mixed.sum() < len(PICTURES)


def test_a_text_competes_only_within_its_domain(views: crops.CropSet) -> None:
    wanted = make(views)[0].targets
    names = {int(d) for d, p in zip(wanted.domain, PICTURES, strict=True) if p.source == "tiny_imagenet"}
    captions = {int(d) for d, p in zip(wanted.domain, PICTURES, strict=True) if p.source == "emoji"}
    assert names.isdisjoint(captions)
    assert {int(d) for d in wanted.bank_domain} == names | captions
    assert wanted.classes[0] == 0
    assert wanted.classes[-1] == targets.NO_CLASS


def test_the_rate_warms_up_stays_and_ends_at_zero() -> None:
    schedule = loop.Schedule(warmup_steps=10)
    assert schedule.rate_at(0.0, 0) == pytest.approx(schedule.rate / 10)
    assert schedule.rate_at(0.5, 500) == schedule.rate
    assert schedule.rate_at(1.0, 900) == 0
    assert [schedule.size(at) for at in (0.0, 0.5, 0.9)] == [80, 96, 112]


def test_average_precision_and_recall_count_what_they_should() -> None:
    scores = torch.tensor([[0.9, 0.5, 0.7], [0.1, 0.2, 0.3]])
    relevant = torch.tensor([[True, True, False], [False, False, True]])
    assert measure.mean_average_precision(scores, relevant) == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)
    assert measure.recall_at(scores, relevant, 1) == pytest.approx((0.5 + 1) / 2)
