"""`vlm2vec` on a random Phi-3.5-V made here, against the original's computation written out."""

import io
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torchvision.transforms import functional
from transformers import CLIPVisionConfig, CLIPVisionModel, Phi3Config, Phi3Model

from mmseek import Content, EncodeRequest, Image, load_encoder
from mmseek.embed.vlm2vec_phi import Vlm2VecPhiEncoder
from mmseek.errors import InputError, ModelError
from mmseek.testing import noise_picture as picture

Vectors = Callable[[Any, Sequence[EncodeRequest]], np.ndarray]

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
SIDE, CROPS, GRID = 28, 4, 2


ASK = "Represent the given image with the following question:"
# Each with the prompt that the original's processor is given.
CASES = [
    (EncodeRequest(Content.of("A cat and a dog")), "A cat and a dog"),
    (EncodeRequest(Content.of("A cat"), "query", "Find an image:"), "Find an image: A cat"),
    (EncodeRequest(Content.of(picture(90, 60))), "<|image_1|> Represent the given image."),
    (EncodeRequest(Content.of(picture(40, 90), "which?"), "query"), f"<|image_1|> {ASK} which?"),
    (EncodeRequest(Content.of(picture(200, 20)), "document", ""), "<|image_1|>"),
    (
        EncodeRequest(Content.of("one", picture(60, 28), "two", picture(56, 56), "three" * 20), "document", ""),
        "one <|image_1|> two <|image_2|> " + "three" * 20,
    ),
]
REQUESTS = [request for request, _ in CASES]


@pytest.fixture(scope="session")
def encoder(tiny_vlm: Callable[[str], Path]) -> Vlm2VecPhiEncoder:
    made = load_encoder(f"vlm2vec:{tiny_vlm('phi3_v')}", device="cpu")
    assert isinstance(made, Vlm2VecPhiEncoder)
    return made


class Plain:
    """The original's processor and model, over one item."""

    def __init__(self, folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        others = ("model_type", "auto_map", "embd_layer", "_attn_implementation")
        own = {key: value for key, value in config.items() if key not in others}
        own["rope_scaling"] = {
            "rope_type": "longrope",
            "short_factor": config["rope_scaling"]["short_factor"],
            "long_factor": config["rope_scaling"]["long_factor"],
            "original_max_position_embeddings": 120,
        }
        self.weights = load_file(folder / "model.safetensors")
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.language = self._filled(Phi3Model(Phi3Config(**own)), "model.")
        vision = CLIPVisionConfig(
            hidden_size=64,
            image_size=SIDE,
            patch_size=7,
            num_hidden_layers=3,
            num_attention_heads=1,
            intermediate_size=24,
        )
        self.vision = self._filled(CLIPVisionModel(vision), "model.vision_embed_tokens.img_processor.vision_model.")
        eyes = "model.vision_embed_tokens."
        self.line_end, self.divider = self.weights[f"{eyes}sub_GN"][0, 0, 0], self.weights[f"{eyes}glb_GN"][0]
        self.projection = torch.nn.Sequential(torch.nn.Linear(256, 32), torch.nn.GELU(), torch.nn.Linear(32, 32))
        self._filled(self.projection, f"{eyes}img_projection.")

    def _filled(self, module: torch.nn.Module, name: str) -> torch.nn.Module:
        own = {key.removeprefix(name): value for key, value in self.weights.items() if key.startswith(name)}
        missing, _ = module.load_state_dict(own, strict=False)
        assert not missing
        return module.eval()

    def prepared(self, image: Image) -> torch.Tensor:
        """Standardised, (3, h, w); the longer side lies across until the end."""
        opened = PIL.Image.open(io.BytesIO(image.data or b"")).convert("RGB")
        upright = opened.width < opened.height
        if upright:
            opened = opened.transpose(PIL.Image.Transpose.TRANSPOSE)
        ratio, scale = opened.width / opened.height, 1
        while scale * math.ceil(scale / ratio) <= CROPS:
            scale += 1
        width = (scale - 1) * SIDE
        opened = functional.resize(opened, [int(width / ratio), width])
        target = math.ceil(opened.height / SIDE) * SIDE
        top = int((target - opened.height) / 2)
        opened = functional.pad(opened, [0, top, 0, target - opened.height - top], fill=[255, 255, 255])
        if upright:
            opened = opened.transpose(PIL.Image.Transpose.TRANSPOSE)
        return functional.normalize(functional.to_tensor(opened), MEAN, STD)

    def merged(self, tile: torch.Tensor) -> torch.Tensor:
        """A tile's states, each 2 x 2 of them one after another: (rows, columns, 4 * d)."""
        square = tile.reshape(2 * GRID, 2 * GRID, -1)
        corners = [square[down::2, right::2] for down in (0, 1) for right in (0, 1)]
        return torch.cat(corners, dim=-1)

    def states(self, image: Image) -> torch.Tensor:
        pixels = self.prepared(image)
        rows, columns = pixels.shape[1] // SIDE, pixels.shape[2] // SIDE
        whole = torch.nn.functional.interpolate(pixels[None], size=(SIDE, SIDE), mode="bicubic")[0]
        grid = [
            [pixels[:, SIDE * row : SIDE * (row + 1), SIDE * column : SIDE * (column + 1)] for column in range(columns)]
            for row in range(rows)
        ]
        seen = [
            [self.merged(self.vision(tile[None], output_hidden_states=True).hidden_states[-2][0, 1:]) for tile in line]
            for line in [*grid, [whole]]
        ]
        lines: list[torch.Tensor] = []
        for number, row in enumerate(seen):
            if number == rows:
                lines.append(self.divider)
            for line in torch.cat(row, dim=1):
                lines += [line, self.line_end[None]]
        count = (rows * columns + 1) * GRID * GRID + 1 + (rows + 1) * GRID
        found = torch.cat(lines)
        assert len(found) == count  # num_img_tokens of the original's processor
        return self.projection(found)

    @torch.no_grad()
    def __call__(self, prompt: str, images: Sequence[Image]) -> np.ndarray:
        for number in range(1, len(images) + 1):
            prompt = prompt.replace(f"<|image_{number}|>", "\0")
        pieces = [
            self.language.embed_tokens(torch.tensor(self.tokenizer.encode(chunk).ids)) for chunk in prompt.split("\0")
        ]
        inputs = [pieces[0]]
        for image, piece in zip(images, pieces[1:], strict=True):
            inputs += [self.states(image), piece]
        state = self.language(inputs_embeds=torch.cat(inputs)[None]).last_hidden_state[0, -1]
        return np.asarray(torch.nn.functional.normalize(state, dim=0))


@pytest.fixture(scope="session")
def expected(tiny_vlm: Callable[[str], Path]) -> np.ndarray:
    plain = Plain(tiny_vlm("phi3_v"))
    return np.stack([plain(prompt, request.content.images) for request, prompt in CASES])


@pytest.mark.parametrize(("request_", "text"), CASES)
def test_prompts(encoder: Vlm2VecPhiEncoder, request_: EncodeRequest, text: str) -> None:
    assert encoder.prompt(request_) == text


def test_the_mark_of_the_beginning_stands_before_every_text(encoder: Vlm2VecPhiEncoder) -> None:
    counts = [encoder.prepare(request)[0].payload.tokens.tolist().count(256) for request in REQUESTS]
    assert counts == [1, 1, 2, 2, 2, 3]


def test_equal_to_the_original(encoder: Vlm2VecPhiEncoder, expected: np.ndarray, vectors: Vectors) -> None:
    assert {encoder.prepare(request)[0].kind for request in REQUESTS} == {"short", "long"}
    np.testing.assert_allclose(vectors(encoder, REQUESTS), expected, atol=1e-5)
    assert np.abs(expected @ expected.T - np.eye(len(expected))).max() < 0.9999


def test_batches_change_nothing(encoder: Vlm2VecPhiEncoder, expected: np.ndarray, vectors: Vectors) -> None:
    order = [3, 0, 5, 2, 1, 4, 0]
    np.testing.assert_allclose(vectors(encoder, [REQUESTS[n] for n in order]), expected[order], atol=1e-5)
    payloads = [encoder.prepare(request)[0].payload for request in REQUESTS[:5]]
    np.testing.assert_allclose(encoder.forward("short", payloads), expected[:5], atol=1e-5)


@pytest.mark.parametrize(
    ("text", "words"),
    [(" ", "neither text nor image"), ("an <|image_1|> here", "take it out"), ("a" * 700, "shorten it")],
)
def test_what_is_refused_fails_alone(encoder: Vlm2VecPhiEncoder, text: str, words: str) -> None:
    first, second = encoder.stream([EncodeRequest(Content.of(text)), REQUESTS[0]])
    assert isinstance(first.error, InputError)
    assert words in str(first.error)
    assert second.vector is not None


def test_a_configuration_of_something_else(tiny_vlm: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tiny_vlm("phi3_v")
    for name in ("model.safetensors", "tokenizer.json", "preprocessor_config.json"):
        (tmp_path / name).symlink_to(folder / name)
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "embd_layer": "default"}))
    with pytest.raises(ModelError, match="no embd_layer"):
        load_encoder(f"vlm2vec:{tmp_path}", device="cpu")
