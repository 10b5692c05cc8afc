"""`bge-vl` on a random LLaVA-NeXT made here, against plain calls of transformers' processor and model."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from transformers import LlavaNextForConditionalGeneration

from mmseek import Content, EncodeRequest, load_encoder
from mmseek.embed.bge_vl_mllm import BgeVlMllmEncoder
from mmseek.embed.detect import detect
from mmseek.errors import InputError
from mmseek.testing import noise_picture as picture

Vectors = Callable[[Any, Sequence[EncodeRequest]], np.ndarray]


TASK = "Retrieve the target image:"
# Each with what the authors' code makes of it, blank for blank.
CASES = [
    (EncodeRequest(Content.of("a cat"), "query", TASK), f"[INST] \n <instruct> {TASK} <query>  a cat \n [/INST]"),
    (
        EncodeRequest(Content.of(picture(90, 60), "make it red"), "query", TASK),
        f"[INST] \n <instruct> {TASK} <query>  make it red \n <image> [/INST]",
    ),
    (
        EncodeRequest(Content.of(picture(60, 70)), "query", TASK),
        f"[INST] \n <instruct> {TASK} <query>  <image> [/INST]",
    ),
    (EncodeRequest(Content.of("a cat"), "query"), "[INST] \n <instruct>  <query> a cat \n [/INST]"),
    (EncodeRequest(Content.of("a cat")), "[INST]  a cat \n [/INST]"),
    (EncodeRequest(Content.of(picture(30, 80)), "document", "not used"), "[INST]  <image> [/INST]"),
    (EncodeRequest(Content.of(picture(30, 80), "a cat")), "[INST]  a cat \n <image> [/INST]"),
]
# Beyond the original.
MORE = [
    (
        EncodeRequest(Content.of("one", picture(60, 28), "two", picture(56, 56))),
        "[INST]  one \n <image> two \n <image> [/INST]",
    ),
    (EncodeRequest(Content.of(picture(60, 28), picture(56, 56), "both")), "[INST]  both \n <image> <image> [/INST]"),
]
REQUESTS = [request for request, _ in CASES]


@pytest.fixture(scope="module")
def encoder(tiny_vlm: Callable[[str], Path]) -> BgeVlMllmEncoder:
    made = load_encoder(f"bge-vl:{tiny_vlm('llava_next')}", device="cpu")
    assert isinstance(made, BgeVlMllmEncoder)
    return made


@pytest.fixture(scope="module")
def expected(tiny_vlm: Callable[[str], Path], llava_processor: Callable[[Path], Any]) -> np.ndarray:
    """One item at a time: squeezed to 512 x 512, processed, and the last state of the last position."""
    folder = tiny_vlm("llava_next")
    processor = llava_processor(folder)
    model = LlavaNextForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    rows = []
    with torch.no_grad():
        for request, prompt in [*CASES, *MORE]:
            opened = [PIL.Image.open(io.BytesIO(image.data or b"")) for image in request.content.images]
            squeezed = [image.resize((512, 512)).convert("RGB") for image in opened] or None
            batch = processor(text=[prompt], images=squeezed, return_tensors="pt")
            state = model.model(**batch).last_hidden_state[:, -1, :]
            rows.append(torch.nn.functional.normalize(state, dim=-1)[0].numpy())
    return np.stack(rows)


@pytest.mark.parametrize(("request_", "text"), [*CASES, *MORE])
def test_prompts(encoder: BgeVlMllmEncoder, request_: EncodeRequest, text: str) -> None:
    assert encoder.prompt(request_) == text


def test_equal_to_plain_transformers(encoder: BgeVlMllmEncoder, expected: np.ndarray, vectors: Vectors) -> None:
    requests = [request for request, _ in [*CASES, *MORE]]
    np.testing.assert_allclose(vectors(encoder, requests), expected, atol=1e-5)
    assert (expected @ expected.T - np.eye(len(expected))).max() < 0.99999
    order = [3, 0, 5, 2, 1, 4, 6, 0]
    np.testing.assert_allclose(vectors(encoder, [requests[n] for n in order]), expected[order], atol=1e-5)


def test_what_is_refused_fails_alone(encoder: BgeVlMllmEncoder) -> None:
    first, second, third = encoder.stream(
        [EncodeRequest(Content.of(" ")), EncodeRequest(Content.of("an <image>")), REQUESTS[0]]
    )
    assert isinstance(first.error, InputError)
    assert "take it out" in str(second.error)
    assert third.vector is not None


def test_is_found_by_its_name(tiny_vlm: Callable[[str], Path]) -> None:
    assert detect(tiny_vlm("llava_next"), name="BAAI/BGE-VL-MLLM-S1").family == "bge-vl"


def test_reads_fewer_tokens_if_asked(tiny_vlm: Callable[[str], Path]) -> None:
    fewer = load_encoder(f"bge-vl:{tiny_vlm('llava_next')}?visual-tokens=6", device="cpu")
    (unit,) = fewer.prepare(REQUESTS[5])  # type: ignore[attr-defined]
    assert unit.cost == len(unit.payload.tokens) - 24 + 6
