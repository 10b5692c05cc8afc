from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from skimage import data

from mmseek import Image
from mmseek.embed.mini.pictures import TOWER_FILE, PictureTower
from mmseek.errors import ModelError
from mmseek.media import MediaLimits, open_image

NAMES = ("astronaut", "coffee", "chelsea", "rocket")


@pytest.fixture(scope="module")
def tower() -> PictureTower:
    if not TOWER_FILE.exists():
        pytest.skip("the image tower's weights are not in this checkout")
    return PictureTower.load()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [1, 3])
def test_decoding_small_is_close_to_decoding_whole(name: str, scale: int, tower: PictureTower, tmp_path: Path) -> None:
    photo = PIL.Image.fromarray(getattr(data, name)())
    photo = photo.resize((photo.width * scale, photo.height * scale), PIL.Image.Resampling.LANCZOS)
    path = tmp_path / "photo.jpg"
    photo.save(path, quality=92)
    whole = open_image(Image(path=path))
    small = open_image(Image(path=path), target=2 * tower.size)
    assert (small.size != whole.size) == (min(whole.size) >= 4 * tower.size), "JPEG decodes at half its size or less"
    plain = whole.resize((tower.size, tower.size), PIL.Image.Resampling.BICUBIC)
    fast, slow = tower([tower.prepare(Image(path=path), MediaLimits()), np.asarray(plain)])
    assert fast @ slow > 0.9995


def test_a_missing_tower_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tower\.safetensors cannot be loaded.*install mmseek anew"):
        PictureTower.load(tmp_path / "tower.safetensors")
