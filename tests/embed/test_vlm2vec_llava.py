"""`vlm2vec` on a random LLaVA-NeXT made here, against plain calls of transformers' processor and model."""

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
from mmseek.embed.vlm2vec_llava import Vlm2VecLlavaEncoder
from mmseek.errors import InputError
from mmseek.testing import noise_picture as picture

Vectors = Callable[[Any, Sequence[EncodeRequest]], np.ndarray]


ASK = "Represent the given image with the following question:"
# Each with the prompt that the original's processor is given.
CASES = [
    (EncodeRequest(Content.of("A cat and a dog")), "A cat and a dog"),
    (EncodeRequest(Content.of("A cat"), "query", "Find an image:"), "Find an image: A cat"),
    (EncodeRequest(Content.of(picture(90, 60))), "<image> Represent the given image."),
    (EncodeRequest(Content.of(picture(40, 90), "which?"), "query"), f"<image> {ASK} which?"),
    (EncodeRequest(Content.of(picture(50, 50), picture(28, 28)), "document", "Both:"), "<image> <image> Both:"),
    (
        EncodeRequest(Content.of("one", picture(60, 28), "two", picture(56, 56), "three"), "document", ""),
        "one <image> two <image> three",
    ),
]
REQUESTS = [request for request, _ in CASES]


@pytest.fixture(scope="session")
def encoder(tiny_vlm: Callable[[str], Path]) -> Vlm2VecLlavaEncoder:
    made = load_encoder(f"vlm2vec:{tiny_vlm('llava_next')}", device="cpu")
    assert isinstance(made, Vlm2VecLlavaEncoder)
    return made


@pytest.fixture(scope="session")
def expected(tiny_vlm: Callable[[str], Path], llava_processor: Callable[[Path], Any]) -> np.ndarray:
    """One item at a time; texts padded on the left as in the original's training, pictures not at all."""
    folder = tiny_vlm("llava_next")
    processor = llava_processor(folder)
    model = LlavaNextForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    rows = []
    with torch.no_grad():
        for request, prompt in CASES:
            opened = [PIL.Image.open(io.BytesIO(image.data or b"")) for image in request.content.images]
            if opened:
                batch = processor(text=[prompt], images=opened, return_tensors="pt")
            else:
                batch = processor(text=[prompt, "x" * 60], return_tensors="pt", padding=True)
            positions = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
            states = model(**batch, position_ids=positions, output_hidden_states=True).hidden_states[-1][0, -1]
            rows.append(torch.nn.functional.normalize(states, dim=-1).numpy())
    return np.stack(rows)


@pytest.mark.parametrize(("request_", "text"), CASES)
def test_prompts(encoder: Vlm2VecLlavaEncoder, request_: EncodeRequest, text: str) -> None:
    assert encoder.prompt(request_) == text


def test_one_mark_of_the_beginning(encoder: Vlm2VecLlavaEncoder) -> None:
    for request in REQUESTS:
        tokens = encoder.prepare(request)[0].payload.tokens.tolist()
        assert tokens[0] == 256
        assert tokens.count(256) == 1


def test_equal_to_plain_transformers(encoder: Vlm2VecLlavaEncoder, expected: np.ndarray, vectors: Vectors) -> None:
    np.testing.assert_allclose(vectors(encoder, REQUESTS), expected, atol=1e-5)
    assert np.abs(expected @ expected.T - np.eye(len(expected))).max() < 0.9999


def test_batches_change_nothing(encoder: Vlm2VecLlavaEncoder, expected: np.ndarray, vectors: Vectors) -> None:
    order = [3, 0, 5, 2, 1, 4, 0]
    np.testing.assert_allclose(vectors(encoder, [REQUESTS[n] for n in order]), expected[order], atol=1e-5)
    payloads = [encoder.prepare(request)[0].payload for request in REQUESTS]
    np.testing.assert_allclose(encoder.forward("sequence", payloads), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "words"), [(" ", "neither text nor image"), ("an <image> here", "take it out"), ("a" * 400, "shorten it")]
)
def test_what_is_refused_fails_alone(encoder: Vlm2VecLlavaEncoder, text: str, words: str) -> None:
    first, second = encoder.stream([EncodeRequest(Content.of(text)), REQUESTS[0]])
    assert isinstance(first.error, InputError)
    assert words in str(first.error)
    assert second.vector is not None
