"""`colpali` on a random checkpoint made here, against plain calls of transformers, one item at a time."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PaliGemmaModel
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from mmseek import Content, EncodeRequest
from mmseek.embed import load_multi_vector_encoder
from mmseek.embed.colpali import render
from mmseek.embed.detect import detect
from mmseek.embed.multi_vector import EngineTokenEncoder
from mmseek.errors import InputError, ModelError
from mmseek.testing import noise_picture as picture
from mmseek.training.tiny import byte_tokenizer
from mmseek.training.tiny_families import tiny_colpali

MARKS = ["<pad>", "<bos>", "<image>"]
SIDE, PATCH, DIM = 28, 14, 8


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("colpali")
    tiny_colpali(place, dim=DIM)
    settings = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": SIDE, "width": SIDE}, "resample": 3}
    (place / "preprocessor_config.json").write_text(json.dumps(settings))
    return place


@pytest.fixture(scope="module")
def encoder(folder: Path) -> EngineTokenEncoder:
    found = load_multi_vector_encoder(f"colpali:{folder}", device="cpu")
    assert isinstance(found, EngineTokenEncoder)
    return found


REQUESTS = [
    EncodeRequest(Content.of("What is shown?"), "query"),
    EncodeRequest(Content.of("a longer text that stands in a document")),
    EncodeRequest(Content.of(picture(90, 60))),
    EncodeRequest(Content.of(picture(50, 70), picture(64, 64), "of two boats")),
    EncodeRequest(Content.of(picture(50, 20)), "query"),
]


def plain(folder: Path, request: EncodeRequest) -> np.ndarray:
    weights = load_file(folder / "model.safetensors")
    model = PaliGemmaModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    prompt = render(request.content, request.role).replace("<image>", "<image>" * (SIDE // PATCH) ** 2)
    ids = torch.tensor([byte_tokenizer(*MARKS).encode(prompt).ids])
    inputs: dict[str, Any] = {"token_type_ids": torch.zeros_like(ids), "attention_mask": torch.ones_like(ids)}
    if request.content.images:
        processor = SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE})
        opened = [PIL.Image.open(io.BytesIO(image.data or b"")) for image in request.content.images]
        inputs["pixel_values"] = processor(images=opened, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        states = model(input_ids=ids, **inputs).last_hidden_state[0]
    vectors = states @ weights["custom_text_proj.weight"].T + weights["custom_text_proj.bias"]
    return np.asarray(vectors / vectors.norm(dim=-1, keepdim=True))


def close(one: list[np.ndarray], other: list[np.ndarray]) -> None:
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def tokens(encoder: EngineTokenEncoder, requests: list[EncodeRequest]) -> list[np.ndarray]:
    found = []
    for encoded in encoder.stream_tokens(requests):
        assert encoded.vector is not None, encoded.error
        found.append(encoded.vector)
    return found


def test_prompts() -> None:
    assert render(Content.of("What?"), "query") == "<bos>What?" + "<pad>" * 10
    assert render(Content.of("What?"), "document") == "<bos>What?"
    assert render(Content.of(picture(8, 8)), "document") == "<image><bos><bos>Describe the image.\n"
    assert render(Content.of("a", picture(8, 8)), "query") == "<image><bos><bos>a" + "<pad>" * 10 + "\n"


def test_equal_to_plain_transformers(encoder: EngineTokenEncoder, folder: Path) -> None:
    found = tokens(encoder, REQUESTS)
    close(found, [plain(folder, request) for request in REQUESTS])
    assert encoder.identity.dim == found[0].shape[1] == DIM


def test_what_it_reads_has_a_vector_a_token(encoder: EngineTokenEncoder) -> None:
    for request, vectors in zip(REQUESTS, tokens(encoder, REQUESTS), strict=True):
        read = encoder.reads(request)
        assert read.prompt == render(request.content, request.role)
        assert read.tokens == len(vectors)
        assert read.picture_tokens == ((SIDE // PATCH) ** 2,) * len(request.content.images)


def test_batches_change_nothing(encoder: EngineTokenEncoder) -> None:
    single = [tokens(encoder, [request])[0] for request in REQUESTS]
    order = [3, 0, 4, 1, 2, 0]
    close(tokens(encoder, [REQUESTS[n] for n in order]), [single[n] for n in order])
    payloads = [encoder.recipe.prepare(request)[0].payload for request in REQUESTS]
    close(list(encoder.recipe.forward("sequence", payloads)), single)  # one batch, padded


def test_every_token_sees_all(encoder: EngineTokenEncoder) -> None:
    """The first token's vector depends on what comes after it."""
    one, other = tokens(encoder, [EncodeRequest(Content.of(text)) for text in ("abc", "abd")])
    assert not np.allclose(one[0], other[0], atol=1e-3)


@pytest.mark.parametrize("prefix", ["model.", "model.model."])
def test_the_names_in_published_weights(encoder: EngineTokenEncoder, folder: Path, tmp_path: Path, prefix: str) -> None:
    place = tmp_path / "published"
    shutil.copytree(folder, place)
    renamed = {}
    for name, value in load_file(folder / "model.safetensors").items():
        new = name if name.startswith("custom_text_proj") else prefix + name
        if prefix == "model.":  # as in the first versions
            new = new.replace("language_model.", "language_model.model.")
        renamed[new] = value
    renamed["model.lm_head.weight"] = torch.zeros(256 + len(MARKS), 32)
    save_file(renamed, place / "model.safetensors", metadata={"format": "pt"})
    other = load_multi_vector_encoder(f"colpali:{place}", device="cpu")
    assert isinstance(other, EngineTokenEncoder)
    close(tokens(other, REQUESTS[:3]), tokens(encoder, REQUESTS[:3]))


def test_what_cannot_be_read(encoder: EngineTokenEncoder, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the text holds <image>"):
        encoder.encode_document_tokens([Content.of("an <image>")])
    with pytest.raises(InputError, match="neither text nor image"):
        encoder.encode_document_tokens([Content(())])
    with pytest.raises(InputError, match="the model takes 8192"):
        encoder.encode_document_tokens([Content.of("x" * 9000)])
    place = tmp_path / "holes"
    shutil.copytree(folder, place)
    weights = load_file(folder / "model.safetensors")
    del weights["multi_modal_projector.linear.weight"]
    save_file(weights, place / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lacks 1 of the weights, multi_modal_projector"):
        load_multi_vector_encoder(f"colpali:{place}", device="cpu")
    (place / "config.json").write_text('{"model_type": "colpali"}')
    with pytest.raises(ModelError, match="is a colpali model, and colpali runs paligemma"):
        load_multi_vector_encoder(f"colpali:{place}", device="cpu")


def test_auto(folder: Path) -> None:
    assert detect(folder).family == "colpali"
