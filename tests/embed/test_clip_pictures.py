"""CLIP's picture preprocessing against Pillow's backend of transformers, and against torchvision for OpenAI's crop."""

from __future__ import annotations

from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseek.embed.clip_pictures import ClipPictures
from mmseek.errors import ModelError

SIZES = [(90, 60), (64, 121), (130, 100), (100, 133), (32, 32), (50, 20), (31, 33), (7, 5), (1, 40)]


def noise(width: int, height: int) -> PIL.Image.Image:
    pixels = np.random.default_rng(width * 1000 + height).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return PIL.Image.fromarray(pixels)


@pytest.mark.parametrize("size", SIZES)
def test_as_transformers_does(size: tuple[int, int]) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    picture = noise(*size)
    wanted = processor(picture, return_tensors="np")["pixel_values"][0]
    ours = ClipPictures(32)
    found = (ours(picture) / 255 - np.array(ours.mean)) / np.array(ours.std)
    assert np.abs(found.transpose(2, 0, 1) - wanted).max() < 1e-5


@pytest.mark.parametrize("size", SIZES)
def test_as_openai_does(size: tuple[int, int]) -> None:
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    original = Compose([Resize(32, interpolation=InterpolationMode.BICUBIC), CenterCrop(32)])
    assert np.array_equal(ClipPictures(32, round_offset=True)(noise(*size)), np.asarray(original(noise(*size))))


def test_the_two_crops_differ() -> None:
    picture = noise(32, 35)  # a margin of 3: 1.5 is 2 to the even number, and 1 rounded down
    assert not np.array_equal(ClipPictures(32, round_offset=True)(picture), ClipPictures(32)(picture))


@settings(max_examples=40)
@given(width=st.integers(1, 3000), height=st.integers(1, 3000), rounded=st.booleans(), squash=st.booleans())
def test_any_size_becomes_the_square(width: int, height: int, rounded: bool, squash: bool) -> None:
    picture = PIL.Image.new("RGB", (width, height), (10, 200, 30))
    pixels = ClipPictures(16, round_offset=rounded, squash=squash)(picture)
    assert pixels.shape == (16, 16, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == (10, 200, 30)).all()


def test_a_thread_of_a_picture_fills_no_memory() -> None:
    assert ClipPictures(224)(PIL.Image.new("RGB", (1_000_000, 1))).shape == (224, 224, 3)


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"size": 32},
        {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}},
        {"size": {"shortest_edge": 32}, "crop_size": 32, "rescale_factor": 0.00392156862745098, "resample": 3},
    ],
)
def test_configurations_that_mean_the_same(config: dict[str, Any]) -> None:
    assert ClipPictures.from_config(config, size=32, round_offset=False) == ClipPictures(32)


def test_what_a_configuration_may_change() -> None:
    config = {"size": {"height": 32, "width": 32}, "do_center_crop": False, "image_mean": [0.5] * 3, "resample": 2}
    found = ClipPictures.from_config(config, size=32, round_offset=False)
    assert found == ClipPictures(32, mean=(0.5,) * 3, resample=2, squash=True)


@pytest.mark.parametrize(
    "config",
    [
        {"size": 64},
        {"crop_size": 30},
        {"do_resize": False},
        {"do_normalize": False},
        {"do_center_crop": False},
        {"rescale_factor": 1.0},
        {"size": {"longest_edge": 32}},
    ],
)
def test_what_cannot_be_followed(config: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="32 x 32"):
        ClipPictures.from_config(config, size=32, round_offset=False)
