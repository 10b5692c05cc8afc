"""Our picture code and positions against transformers' own."""

import math

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import Qwen3VLConfig, Qwen3VLModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from mmseek import Image
from mmseek.errors import MediaError
from mmseek.models.qwen_vl_inputs import PixelRange, flat_positions, grid_positions, patches_of, resized

NAMED = Image(data=b"x")


def noise(width: int, height: int) -> PIL.Image.Image:
    pixels = np.random.default_rng(width * height).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return PIL.Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("size", "patch", "allowed"),
    [((90, 60), 14, (3136, 1003520)), ((64, 250), 14, (3136, 20000)), ((331, 250), 16, (4096, 30000))],
)
def test_patches_equal_the_processors(size: tuple[int, int], patch: int, allowed: tuple[int, int]) -> None:
    picture = noise(*size)
    mean, std = [0.48, 0.45, 0.4], [0.26, 0.27, 0.28]
    processor = Qwen2VLImageProcessorPil(
        patch_size=patch,
        image_mean=mean,
        image_std=std,
        size={"shortest_edge": allowed[0], "longest_edge": allowed[1]},
    )
    expected = processor(images=[picture], return_tensors="np")
    ours = patches_of(resized(picture, 2 * patch, PixelRange(*allowed), NAMED), patch, 2)
    values = (ours.values / 255.0 - np.reshape(mean, (1, 3, 1))) / np.reshape(std, (1, 3, 1))
    frames = np.repeat(values[:, :, None], 2, axis=2).reshape(len(values), -1)
    assert expected["image_grid_thw"].tolist() == [[1, 2 * ours.grid[0], 2 * ours.grid[1]]]
    np.testing.assert_allclose(frames, expected["pixel_values"], atol=1e-5)


@given(st.integers(28, 3000), st.integers(28, 3000), st.sampled_from([(28, 3136, 1003520), (32, 4096, 1843200)]))
def test_sizes_equal_the_processors(width: int, height: int, limits: tuple[int, int, int]) -> None:
    factor, least, most = limits

    class Sized:
        size = (width, height)

        def resize(self, size: tuple[int, int], how: object) -> tuple[int, int]:
            return size

    ours = resized(Sized(), factor, PixelRange(least, most), NAMED)  # type: ignore[arg-type]
    # The original rounds a side of less than half a factor up to it; transformers to nothing.
    assert min(width, height) < factor // 2 or ours == smart_resize(height, width, factor, least, most)[::-1]
    assert least <= math.prod(ours) <= most  # type: ignore[arg-type]


def test_a_thin_picture_keeps_one_token_across() -> None:
    assert resized(noise(500, 10), 32, PixelRange(4096, 1843200), NAMED).size == (512, 32)


def test_a_picture_that_is_too_thin() -> None:
    with pytest.raises(MediaError, match=r"6001 x 30 pixels.*crop it"):
        resized(noise(6001, 30), 28, PixelRange(3136, 1003520), NAMED)


@given(st.lists(st.tuples(st.integers(1, 5), st.tuples(st.integers(1, 4), st.integers(1, 4))), max_size=4), st.data())
def test_grid_positions_equal_the_models(runs: list[tuple[int, tuple[int, int]]], data: st.DataObject) -> None:
    tail = data.draw(st.integers(0 if runs else 1, 4))
    kinds = [kind for text, (h, w) in runs for kind in [0] * text + [1] * (h * w)] + [0] * tail
    grids = [grid for _, grid in runs]
    model = rope_model()
    expected, _ = model.get_rope_index(
        torch.zeros(1, len(kinds), dtype=torch.long),
        mm_token_type_ids=torch.tensor([kinds]),
        image_grid_thw=torch.tensor([(1, 2 * h, 2 * w) for h, w in grids]) if grids else None,
    )
    ours = grid_positions(np.array(kinds, dtype=bool), grids)
    np.testing.assert_array_equal(ours, expected[:, 0].numpy())


def test_positions_without_pictures_are_flat() -> None:
    np.testing.assert_array_equal(grid_positions(np.zeros(5, dtype=bool), []), flat_positions(5))


def rope_model() -> Qwen3VLModel:
    """As much of a model as `get_rope_index` looks at."""
    model = Qwen3VLModel.__new__(Qwen3VLModel)
    torch.nn.Module.__init__(model)
    model.config = Qwen3VLConfig()
    return model
