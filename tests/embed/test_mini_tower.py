"""The image tower of the default encoder: its contract, its file, and how well it finds pictures."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmseek.embed.mini import tower as module
from mmseek.embed.mini.tower import (
    WEIGHTS,
    ImageTower,
    TowerConfig,
    load_tower,
    preprocess,
    preprocess_batch,
    read_header,
    save_tower,
)

DATA = Path(__file__).parents[3] / "shared" / "data"
SMALL = TowerConfig(size=32, stem=8, widths=(8, 16), depths=(1, 1), features=16, classes=5, dim=12, fused=True)


@pytest.fixture(scope="module")
def tower() -> ImageTower:
    return load_tower()


def picture(seed: int, width: int = 90, height: int = 60) -> Image.Image:
    """A coarse random pattern of a few colours."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((width, height), Image.Resampling.NEAREST)


@pytest.fixture(scope="module")
def batch() -> torch.Tensor:
    return torch.from_numpy(preprocess_batch([picture(seed) for seed in range(5)]))


@torch.inference_mode()
def test_vectors_are_normalised_float32_of_384(tower: ImageTower, batch: torch.Tensor) -> None:
    vectors = tower(batch)
    assert vectors.shape == (5, 384)
    assert vectors.dtype == torch.float32
    assert torch.allclose(vectors.norm(dim=1), torch.ones(5), atol=1e-5)


@torch.inference_mode()
def test_a_batch_gives_the_vectors_of_single_pictures(tower: ImageTower, batch: torch.Tensor) -> None:
    single = torch.cat([tower(batch[i : i + 1]) for i in range(len(batch))])
    assert torch.allclose(tower(batch), single, atol=1e-5)


@torch.inference_mode()
def test_the_same_picture_gives_the_same_vector(batch: torch.Tensor) -> None:
    assert torch.equal(load_tower()(batch), load_tower()(batch))


@torch.inference_mode()
def test_float_pictures_give_the_vectors_of_uint8(tower: ImageTower, batch: torch.Tensor) -> None:
    assert torch.allclose(tower(batch), tower(batch.float()), atol=1e-6)


@torch.inference_mode()
def test_different_pictures_give_different_vectors(tower: ImageTower, batch: torch.Tensor) -> None:
    vectors = tower(batch)
    assert float((vectors @ vectors.T).fill_diagonal_(0).max()) < 0.9999


@torch.inference_mode()
def test_an_empty_batch_gives_no_vectors(tower: ImageTower) -> None:
    assert tower(torch.from_numpy(preprocess_batch([]))).shape == (0, 384)


def test_the_tower_loads_in_eval_mode_fused_and_without_gradient_buffers(tower: ImageTower) -> None:
    assert not tower.training
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in tower.modules())
    assert {value.dtype for value in tower.state_dict().values()} == {torch.float32}


def test_the_weights_file_is_small_and_says_how_it_was_made() -> None:
    assert WEIGHTS.stat().st_size <= 12_000_000
    header = read_header()
    assert header["version"] == str(module.FORMAT_VERSION)
    assert json.loads(header["config"])["dim"] == 384
    assert {"data", "seed", "schedule", "steps", "license"} <= set(header)
    assert "imagenet1k_sample" not in header["data"]


@pytest.mark.parametrize("size", [(300, 20), (20, 300), (1, 1), (64, 64)])
def test_any_shape_becomes_a_square(size: tuple[int, int]) -> None:
    array = preprocess(picture(0, *size), 48)
    assert array.shape == (48, 48, 3)
    assert array.dtype == np.uint8


def test_preprocess_sees_the_edges_of_a_wide_picture() -> None:
    wide = Image.new("RGB", (400, 40), "white")
    wide.paste("red", (0, 0, 40, 40))
    array = preprocess(wide, 40)
    assert array[20, 1].tolist() == [255, 0, 0]
    assert array[20, 30].tolist() == [255, 255, 255]


def test_preprocess_of_a_large_jpeg_repeats_itself_and_keeps_the_picture(tmp_path: Path) -> None:
    picture(3, 1200, 800).save(tmp_path / "a.jpg", quality=95)
    arrays = []
    for _ in range(2):
        with Image.open(tmp_path / "a.jpg") as image:
            arrays.append(preprocess(image, 64))
    assert np.array_equal(*arrays)
    plain = np.asarray(picture(3, 1200, 800).resize((64, 64), Image.Resampling.BICUBIC))
    assert np.abs(arrays[0].astype(int) - plain.astype(int)).mean() < 6


@torch.inference_mode()
def test_a_saved_tower_comes_back_with_its_settings(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = ImageTower(replace(SMALL, temperature=0.7)).eval()
    made.label_vectors.copy_(torch.randn(5, 12))
    save_tower(made, tmp_path / "t.safetensors", {"seed": "3"})
    loaded = load_tower(tmp_path / "t.safetensors")
    assert loaded.config == made.config
    assert read_header(tmp_path / "t.safetensors")["seed"] == "3"
    pictures = torch.from_numpy(preprocess_batch([picture(1), picture(2)], 32))
    # Half precision on disk.
    assert torch.allclose(loaded(pictures), made(pictures), atol=5e-3)


def test_a_tower_with_batch_norms_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only a fused tower"):
        save_tower(ImageTower(replace(SMALL, fused=False)), tmp_path / "t.safetensors")


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {"version": "999"}}).encode()
    (tmp_path / "t.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(ValueError, match="version 999"):
        load_tower(tmp_path / "t.safetensors")


@pytest.fixture(scope="module")
def imagenet() -> tuple[torch.Tensor, torch.Tensor]:
    """Every third of 1,000 pictures `(n, S, S, 3)` and the query vector of each `(n, 384)`, one picture a class."""
    folder = DATA / "imagenet1k_sample"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not here")
    corpus = [json.loads(line) for line in (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines()[::3]]
    queries = {
        row["id"]: row["text"]
        for row in map(json.loads, (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines())
    }
    rows = (folder / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]
    query_of = {row.split("\t")[1]: queries[row.split("\t")[0]] for row in rows}
    images = []
    for row in corpus:
        with Image.open(folder / row["image"]) as image:
            images.append(preprocess(image))
    text = pytest.importorskip("mmseek.training.mini.targets").minilm()
    return torch.from_numpy(np.stack(images)), text([query_of[row["id"]] for row in corpus])


@torch.inference_mode()
def hit_at_10(tower: ImageTower, pictures: torch.Tensor, queries: torch.Tensor) -> float:
    vectors = torch.cat([tower(part) for part in pictures.split(50)])
    best = (queries @ vectors.T).topk(10).indices
    return float((best == torch.arange(len(queries))[:, None]).any(1).float().mean())


def test_photos_are_found_by_their_class_names(tower: ImageTower, imagenet: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert hit_at_10(tower, *imagenet) >= 0.16  # 0.22


def test_shuffled_weights_find_photos_by_chance_alone(imagenet: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Shows that the measure above can fail: chance is 0.03."""
    broken = load_tower()
    generator = torch.Generator().manual_seed(0)
    state = broken.state_dict()
    for name, value in state.items():
        if name != "label_vectors" and value.ndim > 1:
            order = torch.randperm(value.numel(), generator=generator)
            state[name] = value.flatten()[order].reshape(value.shape)
    broken.load_state_dict(state)
    assert hit_at_10(broken, *imagenet) < 0.06
