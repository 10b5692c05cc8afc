from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

from mmseek import Image
from mmseek.embed.mini.encoder import MiniEncoder
from mmseek.embed.mini.pictures import PictureTower
from mmseek.embed.mini.text import TextTower
from mmseek.embed.mini.weights import find_text_model

SIZE = 8


@pytest.fixture(scope="session")
def model_folder() -> Path:
    return find_text_model()


@pytest.fixture(scope="session")
def text_tower(model_folder: Path) -> TextTower:
    return TextTower(model_folder)


@pytest.fixture(scope="session")
def picture_tower() -> PictureTower:
    """Random and tiny: a linear map of 8 x 8 pixels."""
    weights = torch.randn(SIZE * SIZE * 3, 384, generator=torch.Generator().manual_seed(0))

    def tower(pictures: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(pictures.flatten(1).float() @ weights, dim=1)

    def preprocess(picture: PIL.Image.Image) -> np.ndarray:
        assert picture.mode == "RGB"
        return np.asarray(picture.resize((SIZE, SIZE)))

    return PictureTower(tower, preprocess, size=SIZE)


@pytest.fixture
def mini(text_tower: TextTower, picture_tower: PictureTower) -> MiniEncoder:
    return MiniEncoder(text_tower, lambda: picture_tower, fingerprint="0" * 64)


@pytest.fixture(scope="session")
def picture() -> Callable[[int], Image]:
    """A picture of coloured noise that its number gives."""

    def make(number: int) -> Image:
        pixels = np.random.default_rng(number).integers(0, 255, (30, 40, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        PIL.Image.fromarray(pixels).save(buffer, "PNG")
        return Image(data=buffer.getvalue())

    return make
