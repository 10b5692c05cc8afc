"""`jina-v4-multi` on a tiny checkpoint: the original's projection written out over plain calls of the backbone."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from mmseek import Content, load_encoder
from mmseek.cli import run
from mmseek.embed import load_multi_vector_encoder
from mmseek.embed.jina_v4 import add_adapter
from mmseek.errors import ModelError, SpecError
from mmseek.protocols import MultiVectorEncoder
from mmseek.testing import noise_picture as picture

DIM, SCALE = 8, 2 / 4
PROJECTION = "base_model.model.multi_vector_projector.lora_{}.{}.weight"


@pytest.fixture(scope="module")
def folder(tiny_vlm: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny jina-v4 with a projector, and an adapter of it for each of two tasks."""
    made = tmp_path_factory.mktemp("jina") / "jina-embeddings-v4"
    shutil.copytree(tiny_vlm("jina_v4"), made)
    generator = torch.Generator().manual_seed(3)
    weights = load_file(made / "model.safetensors")
    weights["multi_vector_projector.weight"] = torch.randn(DIM, 32, generator=generator) * 0.2
    weights["multi_vector_projector.bias"] = torch.randn(DIM, generator=generator) * 0.2
    save_file(weights, made / "model.safetensors")
    adapters = load_file(made / "adapters" / "adapter_model.safetensors")
    for task in ("retrieval", "text-matching"):
        adapters[PROJECTION.format("A", task)] = torch.randn(4, 32, generator=generator) * 0.2
        adapters[PROJECTION.format("B", task)] = torch.randn(DIM, 4, generator=generator) * 0.2
    save_file(adapters, made / "adapters" / "adapter_model.safetensors")
    return made


def prompt(content: Content, prefix: str) -> str:
    if content.images:
        return "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>Describe the image.<|im_end|>\n"
    return prefix + content.text


@torch.no_grad()
def plain(folder: Path, task: str, content: Content, prefix: str, tokenizer: Any) -> np.ndarray:
    """One item: transformers' model and positions, the adapted projection, each token's vector normalised."""
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    add_adapter(model.model, folder / "adapters", task)
    text, inputs = prompt(content, prefix), {}
    if content.images:
        settings = json.loads((folder / "preprocessor_config.json").read_text())
        size = {"shortest_edge": 28 * 28 * 4, "longest_edge": 28 * 28 * 768}
        colours = {name: settings[name] for name in ("image_mean", "image_std")}
        opened = [PIL.Image.open(io.BytesIO(image.data or b"")) for image in content.images]
        inputs = dict(Qwen2VLImageProcessorPil(**colours, size=size)(images=opened, return_tensors="pt"))
        text = text.replace("<|image_pad|>", "<|image_pad|>" * int(inputs["image_grid_thw"].prod() // 4))
    numbers = torch.tensor([tokenizer.encode(text).ids])
    kinds = (numbers == model.config.image_token_id).int()
    positions, _ = model.model.get_rope_index(
        numbers, mm_token_type_ids=kinds, image_grid_thw=inputs.get("image_grid_thw")
    )
    states = model.model(input_ids=numbers, position_ids=positions, **inputs).last_hidden_state[0]
    weights, adapters = (
        load_file(folder / "model.safetensors"),
        load_file(folder / "adapters" / "adapter_model.safetensors"),
    )
    base = torch.nn.functional.linear(
        states, weights["multi_vector_projector.weight"], weights["multi_vector_projector.bias"]
    )
    inner, outer = (adapters[PROJECTION.format(side, task)] for side in "AB")
    vectors = base + SCALE * (states @ inner.T @ outer.T)
    return torch.nn.functional.normalize(vectors, dim=-1).numpy()


@pytest.mark.parametrize("task", ["retrieval", "text-matching"])
def test_equal_to_the_original_computation(folder: Path, task: str) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    encoder = load_multi_vector_encoder(f"jina-v4-multi:{folder}#{task}", device="cpu")
    assert isinstance(encoder, MultiVectorEncoder)
    assert encoder.identity.dim == DIM
    contents = [
        Content.of("a cat and a dog"),
        Content.of(picture(90, 60)),
        Content.of("x"),
        Content.of(picture(60, 90)),
    ]
    document = "Query: " if task == "text-matching" else "Passage: "
    found = encoder.encode_document_tokens(contents)
    for content, rows in zip(contents, found, strict=True):
        np.testing.assert_allclose(rows, plain(folder, task, content, document, tokenizer), atol=1e-5)
    (query,) = encoder.encode_query_tokens(contents[:1])
    np.testing.assert_allclose(query, plain(folder, task, contents[0], "Query: ", tokenizer), atol=1e-5)
    for again, rows in zip(encoder.encode_document_tokens(contents[::-1])[::-1], found, strict=True):
        np.testing.assert_allclose(again, rows, atol=1e-5)


def test_tasks_and_families_are_told_apart(folder: Path) -> None:
    names = [f"jina-v4-multi:{folder}#retrieval", f"jina-v4-multi:{folder}#text-matching"]
    identities = [load_multi_vector_encoder(name, device="cpu").identity for name in names]
    assert [identity.spec for identity in identities] == names
    single = load_encoder(f"jina-v4:{folder}", device="cpu").identity
    assert len({*(identity.fingerprint for identity in identities), single.fingerprint}) == 3
    with pytest.raises(SpecError, match="gives a vector for each token"):
        load_encoder(names[0])
    with pytest.raises(SpecError, match="jina-v4-multi has no task 'songs'"):
        load_multi_vector_encoder(f"jina-v4-multi:{folder}#songs")


def test_a_checkpoint_without_the_projector_is_refused(
    tiny_vlm: Callable[[str], Path], folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="or multi_vector_projector from 32 dimensions"):
        load_multi_vector_encoder(f"jina-v4-multi:{tiny_vlm('jina_v4')}", device="cpu")
    half = tmp_path / "half"
    shutil.copytree(folder, half)
    file = half / "adapters" / "adapter_model.safetensors"
    save_file({name: weight for name, weight in load_file(file).items() if "projector" not in name}, file)
    with pytest.raises(ModelError, match="no adapter 'retrieval' of the multi_vector_projector"):
        load_multi_vector_encoder(f"jina-v4-multi:{half}", device="cpu")


def test_writes_arrays(folder: Path, tmp_path: Path) -> None:
    items = tmp_path / "items.jsonl"
    items.write_text('{"id": "a", "text": "a cat"}\n{"id": "q", "text": "a dog", "role": "query"}\n')
    out = tmp_path / "out.npz"
    assert (
        run(["embed", str(items), "--encoder", f"jina-v4-multi:{folder}", "--output", str(out), "--device", "cpu"]) == 0
    )
    with np.load(out, allow_pickle=False) as arrays:
        assert arrays["a"].shape == (len("Passage: a cat"), DIM)
        assert arrays["q"].shape == (len("Query: a dog"), DIM)
