"""The `mme5` encoder on a random checkpoint made here, against plain calls of transformers.

The original ran on a transformers that collected the states going into a layer of the vision tower; the one installed
collects those that come out. Here they are caught where they go in.
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from tokenizers import Tokenizer
from transformers import MllamaForConditionalGeneration, MllamaProcessor, PreTrainedTokenizerFast
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil

from mmseek import Content, EncodeRequest, Image, load_encoder
from mmseek.embed.mme5 import MmE5Encoder, render
from mmseek.errors import InputError, ModelError
from mmseek.testing import noise_picture as picture

Vectors = Callable[[Any, Sequence[EncodeRequest]], np.ndarray]

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]


ASK = "Represent the given image with the following question:"
# Each with the string that the original's code is given for it; its processor adds the mark of the beginning.
CASES = [
    (EncodeRequest(Content.of("A cat and a dog")), "A cat and a dog"),
    (EncodeRequest(Content.of("A cat"), "query", "Find an image: "), "Find an image: A cat\n"),
    (EncodeRequest(Content.of(picture(40, 30))), "<|image|><|begin_of_text|>Represent the given image.\n"),
    (
        EncodeRequest(Content.of(picture(90, 30), "which?"), "query"),
        f"<|image|><|begin_of_text|>{ASK} which?\n",
    ),
    (
        EncodeRequest(Content.of(picture(60, 60), "a caption"), "document", "Represent the image:"),
        "<|image|><|begin_of_text|>Represent the image: a caption\n",
    ),
    (
        EncodeRequest(Content.of(picture(28, 28), picture(28, 100), "two"), "document", ""),
        "<|image|><|image|><|begin_of_text|>two\n",
    ),
    (
        EncodeRequest(Content.of("one", picture(30, 28), "two", picture(56, 56), "three"), "document", ""),
        "one <|image|> two <|image|> three\n",
    ),
]
REQUESTS = [request for request, _ in CASES]


@pytest.fixture(scope="session")
def encoder(tiny_vlm: Callable[[str], Path]) -> MmE5Encoder:
    made = load_encoder(f"mme5:{tiny_vlm('mllama')}", device="cpu")
    assert isinstance(made, MmE5Encoder)
    return made


class Plain:
    """The original: its processor, and its model as its transformers ran it, one item at a time."""

    def __init__(self, folder: Path) -> None:
        self.model = MllamaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        fast = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_file(str(folder / "tokenizer.json")),
            bos_token="<|begin_of_text|>",
            pad_token="<|finetune_right_pad_id|>",
            extra_special_tokens={"image_token": "<|image|>"},
        )
        images = MllamaImageProcessorPil(
            size={"height": 28, "width": 28}, max_image_tiles=4, image_mean=MEAN, image_std=STD
        )
        self.processor = MllamaProcessor(images, fast)
        tower = self.model.model.vision_model
        self.wanted = list(tower.intermediate_layers_indices)
        self.entered: list[torch.Tensor] = []
        for layer in tower.transformer.layers:
            layer.register_forward_pre_hook(self._caught, with_kwargs=True)
        tower.register_forward_hook(self._with_what_went_in)

    def _caught(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.entered.append(args[0] if args else kwargs["hidden_states"])

    def _with_what_went_in(self, tower: Any, _: Any, output: Any) -> Any:
        states = output.last_hidden_state
        items, pictures, tiles, patches, _ = states.shape
        inner = torch.stack([self.entered[index] for index in self.wanted], dim=-1)
        inner = inner.reshape(items * pictures, tiles, -1, tower.hidden_size * len(self.wanted))[:, :, :patches]
        inner = inner.reshape(items, pictures, tiles, patches, -1)
        output.last_hidden_state = torch.cat([states[..., : tower.hidden_size], inner], dim=-1)
        self.entered.clear()
        return output

    def __call__(self, text: str, images: Sequence[Image]) -> np.ndarray:
        opened = [PIL.Image.open(io.BytesIO(image.data or b"")) for image in images]
        inputs = self.processor(text=text, images=opened or None, return_tensors="pt")
        with torch.no_grad():
            states = self.model(**inputs, output_hidden_states=True).hidden_states[-1]
        last = inputs["attention_mask"].sum(dim=1) - 1
        vector = torch.nn.functional.normalize(states[0, last[0]], dim=0)
        return np.asarray(vector)


@pytest.fixture(scope="session")
def plain(tiny_vlm: Callable[[str], Path]) -> Plain:
    return Plain(tiny_vlm("mllama"))


@pytest.mark.parametrize(("request_", "text"), CASES)
def test_prompts(request_: EncodeRequest, text: str) -> None:
    whole = text if "<|begin_of_text|>" in text else f"<|begin_of_text|>{text}"
    assert render(request_) == whole


def test_the_mark_of_the_beginning_stands_twice(encoder: MmE5Encoder) -> None:
    text, image = (encoder.prepare(request)[0].payload.tokens for request in (REQUESTS[0], REQUESTS[2]))
    assert text[:3].tolist() == [256, 256, ord("A") - ord("!")]
    assert image[:3].tolist() == [256, 258, 256]


def test_equal_to_plain_transformers(encoder: MmE5Encoder, plain: Plain, vectors: Vectors) -> None:
    expected = np.stack([plain(text, request.content.images) for request, text in CASES])
    np.testing.assert_allclose(vectors(encoder, REQUESTS), expected, atol=1e-5)
    assert np.abs(expected @ expected.T - np.eye(len(expected))).max() < 0.9999


def test_what_comes_out_of_the_layers_is_something_else(
    encoder: MmE5Encoder, plain: Plain, monkeypatch: pytest.MonkeyPatch, vectors: Vectors
) -> None:
    monkeypatch.setattr(encoder._checkpoint.model.vision_model, "intermediate_layers_indices", [1, 2])
    assert float(vectors(encoder, REQUESTS[2:3])[0] @ plain(CASES[2][1], REQUESTS[2].content.images)) < 0.999


def test_batches_change_nothing(encoder: MmE5Encoder, vectors: Vectors) -> None:
    single = np.concatenate([vectors(encoder, [request]) for request in REQUESTS])
    order = [3, 0, 6, 2, 1, 4, 5, 0]
    np.testing.assert_allclose(vectors(encoder, [REQUESTS[n] for n in order]), single[order], atol=1e-5)
    for kind, part in (("text", slice(0, 2)), ("pictures", slice(2, 7))):
        payloads = [encoder.prepare(request)[0].payload for request in REQUESTS[part]]
        np.testing.assert_allclose(encoder.forward(kind, payloads), single[part], atol=1e-5)


@pytest.mark.parametrize("text", ["an <|image|> here", "<|begin_of_text|>", "a" * 500, " "])
def test_what_is_refused_fails_alone(encoder: MmE5Encoder, text: str) -> None:
    first, second = encoder.stream([EncodeRequest(Content.of(text)), REQUESTS[0]])
    assert isinstance(first.error, InputError)
    assert second.vector is not None


def test_another_kind_of_model(tiny_vlm: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match="is a llava_next model, and mme5 runs mllama"):
        load_encoder(f"mme5:{tiny_vlm('llava_next')}", device="cpu")
