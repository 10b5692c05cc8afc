"""The `jina-v4` encoder on a random checkpoint made here, against plain calls of transformers.

The adapters are not added to the weights there but run beside them, and the pooling is the original's, by its masks.
"""

import io
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import Qwen2_5_VLModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from mmseek import Content, EncodeRequest, Image, load_encoder
from mmseek.embed.jina_v4 import JinaV4Encoder
from mmseek.errors import InputError, ModelError, SpecError
from mmseek.testing import noise_picture as picture

Vectors = Callable[[Any, Sequence[EncodeRequest]], np.ndarray]

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"


CASES = [
    (EncodeRequest(Content.of("what is in it?"), "query", "not used"), "Query: what is in it?"),
    (EncodeRequest(Content.of("A cat and a dog, and more of it")), "Passage: A cat and a dog, and more of it"),
    (EncodeRequest(Content.of(picture(90, 60))), f"<|im_start|>user\n{PICTURE}Describe the image.<|im_end|>\n"),
    (
        EncodeRequest(Content.of(picture(60, 120)), "query"),
        f"<|im_start|>user\n{PICTURE}Describe the image.<|im_end|>\n",
    ),
    (
        EncodeRequest(Content.of(picture(20, 30), "why?"), "query"),
        f"<|im_start|>user\nQuery: {PICTURE}why?<|im_end|>\n",
    ),
    (
        EncodeRequest(Content.of("one", picture(64, 64), "two", picture(84, 56), "three")),
        f"<|im_start|>user\nPassage: one{PICTURE}two{PICTURE}three<|im_end|>\n",
    ),
    (
        EncodeRequest(Content.of(picture(64, 64), picture(84, 56))),
        f"<|im_start|>user\n{PICTURE}{PICTURE}Describe the image.<|im_end|>\n",
    ),
]
REQUESTS = [request for request, _ in CASES]
# What the original takes: a text or one picture.
ORIGINAL = 4


def load(folder: Path, task: str = "") -> JinaV4Encoder:
    made = load_encoder(f"jina-v4:{folder}{task}", device="cpu")
    assert isinstance(made, JinaV4Encoder)
    return made


@pytest.fixture(scope="session")
def encoder(tiny_vlm: Callable[[str], Path]) -> JinaV4Encoder:
    return load(tiny_vlm("jina_v4"))


def adapted(folder: Path, task: str) -> Qwen2_5_VLModel:
    """The model with an adapter beside each of its linear maps, as the original runs it."""
    model = Qwen2_5_VLModel.from_pretrained(folder, dtype=torch.float32).eval()
    weights = load_file(folder / "adapters" / "adapter_model.safetensors")
    for name, module in model.named_modules():
        inner = weights.get(f"base_model.model.model.{name}.lora_A.{task}.weight")
        if inner is not None:
            outer = weights[f"base_model.model.model.{name}.lora_B.{task}.weight"]
            module.register_forward_hook(
                lambda _, args, output, a=inner, b=outer: output + (args[0] @ a.T) @ b.T * (2 / 4)
            )
    return model


def plain(folder: Path, task: str, prompt: str, images: Sequence[Image]) -> np.ndarray:
    model = adapted(folder, task)
    inputs: dict[str, torch.Tensor] = {}
    if images:
        processor = Qwen2VLImageProcessorPil(
            patch_size=14, image_mean=MEAN, image_std=STD, size={"shortest_edge": 3136, "longest_edge": 602112}
        )
        opened = [PIL.Image.open(io.BytesIO(image.data or b"")) for image in images]
        inputs = dict(processor(images=opened, return_tensors="pt"))
        for grid in inputs["image_grid_thw"]:
            prompt = prompt.replace("<|image_pad|>", "<|placeholder|>" * int(grid.prod() // 4), 1)
        prompt = prompt.replace("<|placeholder|>", "<|image_pad|>")
    ids = torch.tensor([Tokenizer.from_file(str(folder / "tokenizer.json")).encode(prompt).ids])
    inputs["mm_token_type_ids"] = (ids == model.config.image_token_id).int()
    with torch.no_grad():
        states = model(input_ids=ids, **inputs).last_hidden_state
    mask = torch.ones_like(ids)
    if images:
        start = torch.where(ids == model.config.vision_start_token_id)[1]
        end = torch.where(ids == model.config.vision_end_token_id)[1]
        places = torch.arange(ids.shape[1]).expand(1, -1)
        mask = ((places >= start.unsqueeze(1)) & (places <= end.unsqueeze(1))).long()
    pooled = (states * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)
    return np.asarray(torch.nn.functional.normalize(pooled, dim=-1)[0])


@pytest.mark.parametrize(("request_", "text"), CASES)
def test_prompts(encoder: JinaV4Encoder, request_: EncodeRequest, text: str) -> None:
    assert encoder.prompt(request_) == text


@pytest.mark.parametrize("task", ["retrieval", "text-matching"])
def test_equal_to_plain_transformers(tiny_vlm: Callable[[str], Path], task: str, vectors: Vectors) -> None:
    folder = tiny_vlm("jina_v4")
    expected = []
    for request, prompt in CASES[:ORIGINAL]:
        text = prompt.replace("Passage: ", "Query: ") if task == "text-matching" else prompt
        expected.append(plain(folder, task, text, request.content.images))
    np.testing.assert_allclose(vectors(load(folder, f"#{task}"), REQUESTS[:ORIGINAL]), np.stack(expected), atol=1e-5)


def test_what_is_pooled(encoder: JinaV4Encoder) -> None:
    """The picture with its marks; pictures one after another; both together from the prefix to the end of the turn."""
    number = encoder._checkpoint.tokenizer.token_to_id
    begin, pad, end = (number(mark) for mark in ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>"))
    read = []
    for place in (2, 4, 6):
        payload = encoder.prepare(REQUESTS[place])[0].payload
        tokens = payload.tokens[slice(*payload.pooled)].tolist()
        read.append([token for token in tokens if token != pad])
    letters = {letter: encoder._checkpoint.tokenizer.encode(letter).ids[0] for letter in "Query: why?"}
    both = [*(letters[letter] for letter in "Query: "), begin, end, *(letters[letter] for letter in "why?")]
    assert read == [[begin, end], both, [begin, end, begin, end]]


def test_tasks_are_named(tiny_vlm: Callable[[str], Path], tmp_path: Path, vectors: Vectors) -> None:
    folder = tiny_vlm("jina_v4")
    default, named, other = load(folder), load(folder, "#retrieval"), load(folder, "#text-matching")
    assert default.identity == named.identity
    assert default.identity.spec == f"jina-v4:{folder}#retrieval"
    assert other.identity.fingerprint != default.identity.fingerprint
    assert load_encoder(other.identity.spec, device="cpu").identity == other.identity  # as a collection opens it
    assert float(vectors(default, REQUESTS[2:3])[0] @ vectors(other, REQUESTS[2:3])[0]) < 0.999
    with pytest.raises(SpecError, match=r"no task 'poetry'.*retrieval, text-matching, code"):
        load(folder, "#poetry")
    with pytest.raises(ModelError, match="no adapter named 'code'"):
        load(folder, "#code")
    with pytest.raises(SpecError, match="names no model"):
        load_encoder("jina-v4")


def test_batches_change_nothing(encoder: JinaV4Encoder, vectors: Vectors) -> None:
    single = np.concatenate([vectors(encoder, [request]) for request in REQUESTS])
    assert np.abs(single @ single.T - np.eye(len(single))).max() < 0.9999
    order = [3, 0, 6, 2, 1, 4, 5, 0]
    np.testing.assert_allclose(vectors(encoder, [REQUESTS[n] for n in order]), single[order], atol=1e-5)
    payloads = [encoder.prepare(request)[0].payload for request in REQUESTS]
    np.testing.assert_allclose(encoder.forward("sequence", payloads), single, atol=1e-5)


def test_nothing_fails_alone(encoder: JinaV4Encoder) -> None:
    first, second = encoder.stream([EncodeRequest(Content.of(" ")), REQUESTS[0]])
    assert isinstance(first.error, InputError)
    assert second.vector is not None


def test_broken_adapters(tiny_vlm: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny_vlm("jina_v4"), folder)
    settings = folder / "adapters" / "adapter_config.json"
    sound = settings.read_text()
    settings.write_text('{"r": 4}')
    with pytest.raises(ModelError, match="plain LoRA"):
        load(folder)
    settings.write_text(sound)
    (folder / "adapters" / "adapter_model.safetensors").write_bytes(b"short")
    with pytest.raises(ModelError, match="safetensors"):
        load(folder)
    shutil.rmtree(folder / "adapters")
    with pytest.raises(ModelError, match="without which it was not trained"):
        load(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["Qwen2_5_VLForConditionalGeneration"]}))
    assert load(folder).identity.dim == 32  # merged already, one task's
