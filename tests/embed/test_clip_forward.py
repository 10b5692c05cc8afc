"""A CLIP as it is run on a CPU, against transformers' own `CLIPModel`, for every way that batches may come."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import CLIPConfig, CLIPModel

from mmseek.embed.clip_forward import ClipForward
from mmseek.embed.clip_pictures import ClipPictures
from mmseek.embed.clip_tower import ClipTower

WORDS, START, END, SIDE = 40, 40, 41, 35  # three pixels more than patches
COLOURS = (torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1), torch.tensor([0.3, 0.2, 0.25]).view(1, 3, 1, 1))


def model(act: str, *, eos: int = END, layers: int = 3) -> Any:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": layers, "num_attention_heads": 2}
    text = {**shape, "hidden_act": act, "vocab_size": END + 1, "max_position_embeddings": 24}
    ends = {"bos_token_id": START, "eos_token_id": eos, "pad_token_id": 0}
    vision = {**shape, "hidden_act": act, "image_size": SIDE, "patch_size": 8}
    made = CLIPModel(CLIPConfig(text_config={**text, **ends}, vision_config=vision, projection_dim=16)).eval()
    generator = torch.Generator().manual_seed(0)
    for weight in made.parameters():
        weight.data = torch.randn(weight.shape, generator=generator) * 0.2
    return made


def texts(seed: int, count: int) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [[START, *random.integers(1, WORDS, size).tolist(), END] for size in random.integers(0, 22, count)]


@torch.inference_mode()
def plain_texts(clip: Any, rows: list[list[int]]) -> torch.Tensor:
    return torch.cat([clip.get_text_features(torch.tensor([row])).pooler_output for row in rows])


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("eos", [END, 2])
@torch.inference_mode()
def test_texts_of_any_lengths(act: str, eos: int) -> None:
    clip = model(act, eos=eos)
    rows = texts(0, 60)
    rows.sort(key=len, reverse=True)
    rows += [[START, 3, END, 5, 6, END], [START, END]]  # what follows the first mark of an end is not read
    expected = plain_texts(clip, rows)
    assert sum(map(len, rows)) > 2 * 256  # several blocks
    for packed in (True, False):
        fast = ClipForward(clip, COLOURS, END, packed=packed)
        torch.testing.assert_close(fast.texts(rows), expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(fast.texts(rows[::-1]), expected.flip(0), atol=1e-5, rtol=0)


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("packed", [True, False])
@torch.inference_mode()
def test_pictures_in_any_number(act: str, layers: int, packed: bool) -> None:
    clip = model(act, layers=layers)
    pixels = torch.from_numpy(np.stack(pictures(29)))
    standard = (pixels.permute(0, 3, 1, 2).float() / 255 - COLOURS[0]) / COLOURS[1]
    expected = clip.get_image_features(standard).pooler_output
    fast = ClipForward(clip, COLOURS, END, packed=packed)
    for count in (1, 11, 12, 29):  # 200 // 17 tokens: blocks of eleven pictures
        torch.testing.assert_close(fast.images(pixels[:count]), expected[:count], atol=1e-5, rtol=0)
    # The model still is what it was, on whose weights both work.
    torch.testing.assert_close(clip.get_image_features(standard).pooler_output, expected, atol=1e-6, rtol=0)


def tower(act: str = "quick_gelu") -> ClipTower:
    words = {str(number): number for number in range(WORDS)} | {"<s>": START, "</s>": END}
    tokenizer = Tokenizer(WordLevel(words, unk_token="1"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", START), ("</s>", END)])
    return ClipTower(model(act), tokenizer, ClipPictures(size=SIDE))


def pictures(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 255, (count, SIDE, SIDE, 3), dtype=np.uint8))


def test_who_takes_the_model_and_changes_it_sees_the_change() -> None:
    clip, some = tower(), pictures(30)
    before = clip.images(some)
    assert clip._forward is not None
    for parameter in clip.model.parameters():
        parameter.data.mul_(1.5)
    with torch.inference_mode():
        expected = clip.image_rows(some).numpy()
    np.testing.assert_allclose(clip.images(some), expected, atol=1e-5)
    assert np.abs(expected - before).max() > 0.1
    assert clip._forward is None


def test_an_activation_that_is_not_known_is_left_to_transformers() -> None:
    clip = tower("gelu_new")
    assert clip.images(pictures(2)).shape == (2, 16)
    assert clip._forward is None


def test_many_threads_begin_at_once() -> None:
    clip, some = tower(), pictures(33)
    with torch.inference_mode():
        expected = clip.image_rows(some).numpy()
    with ThreadPoolExecutor(4) as pool:
        for rows in pool.map(clip.images, [some] * 8):
            np.testing.assert_allclose(rows, expected, atol=1e-5)
