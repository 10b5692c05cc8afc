"""The `vlm2vec`, `qwen3-vl` and `gme` encoders on random checkpoints made here, against plain calls of transformers."""

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
from tokenizers import Tokenizer, processors
from transformers import Qwen2_5_VLModel, Qwen2VLModel, Qwen3VLModel
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from mmseek import Content, EncodeRequest, Image, load_encoder
from mmseek.embed.batching import Budget
from mmseek.embed.qwen_vl import QwenVLEncoder
from mmseek.errors import InputError, MediaError, ModelError, SpecError
from mmseek.testing import noise_picture as picture

Vectors = Callable[[Any, Sequence[EncodeRequest]], np.ndarray]

CLASSES = {"qwen2_vl": Qwen2VLModel, "qwen2_5_vl": Qwen2_5_VLModel, "qwen3_vl": Qwen3VLModel}
MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]


@pytest.fixture(scope="session")
def checkpoint(tiny_vlm: Callable[[str], Path]) -> Callable[[str], Path]:
    return tiny_vlm


REQUESTS = [
    EncodeRequest(Content.of("A cat and a dog"), "query", "Find it:"),
    EncodeRequest(Content.of(picture(90, 60))),
    EncodeRequest(Content.of(picture(60, 120), "which colour is it?"), "query"),
    EncodeRequest(Content.of("one", picture(64, 64), "two", picture(84, 56), "three")),
    EncodeRequest(Content.of("a longer text, of more tokens than there are in the others, and then some more of it")),
    EncodeRequest(Content.of(picture(50, 20))),
]
SPECS = [("vlm2vec", "qwen2_vl"), ("vlm2vec", "qwen2_5_vl"), ("qwen3-vl", "qwen3_vl"), ("gme", "qwen2_vl")]
# Of the pixels of a picture, as each family's own code sets them.
PIXELS = {"vlm2vec": (3136, 1003520), "qwen3-vl": (4096, 1843200), "gme": (200704, 1003520)}


def load(family: str, folder: Path) -> QwenVLEncoder:
    encoder = load_encoder(f"{family}:{folder}", device="cpu")
    assert isinstance(encoder, QwenVLEncoder)
    return encoder


def plain(encoder: QwenVLEncoder, family: str, folder: Path, kind: str, request: EncodeRequest) -> np.ndarray:
    """One request through transformers' own picture processor and model."""
    model = CLASSES[kind].from_pretrained(folder, dtype=torch.float32).eval()
    prompt = encoder.prompt(request)
    inputs: dict[str, torch.Tensor] = {}
    if request.content.images:
        patch = model.config.vision_config.patch_size
        low, high = PIXELS[family]
        processor = Qwen2VLImageProcessorPil(
            patch_size=patch, image_mean=MEAN, image_std=STD, size={"shortest_edge": low, "longest_edge": high}
        )
        opened = [PIL.Image.open(io.BytesIO(image.data or b"")) for image in request.content.images]
        if family == "vlm2vec":
            opened = [image.resize((56, 56)) if min(image.size) < 28 else image for image in opened]
        if family == "gme":
            sizes = [smart_resize(image.height, image.width, 28, 3136, 12845056) for image in opened]
            opened = [image.resize(size[::-1]) for image, size in zip(opened, sizes, strict=True)]
        inputs = dict(processor(images=opened, return_tensors="pt"))
        for grid in inputs["image_grid_thw"]:
            prompt = prompt.replace("<|image_pad|>", "<|placeholder|>" * int(grid.prod() // 4), 1)
        prompt = prompt.replace("<|placeholder|>", "<|image_pad|>")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    ids = torch.tensor([tokenizer.encode(prompt).ids])
    if kind == "qwen3_vl":
        inputs["mm_token_type_ids"] = (ids == model.config.image_token_id).int()
    else:
        inputs["position_ids"] = torch.arange(ids.shape[1]).expand(3, 1, -1)
    with torch.no_grad():
        state = model(input_ids=ids, **inputs).last_hidden_state[0, -1]
    return torch.nn.functional.normalize(state, dim=0).numpy()


@pytest.mark.parametrize(("family", "kind"), SPECS)
def test_equal_to_plain_transformers(
    checkpoint: Callable[[str], Path], family: str, kind: str, vectors: Vectors
) -> None:
    folder = checkpoint(kind)
    encoder = load(family, folder)
    expected = np.stack([plain(encoder, family, folder, kind, request) for request in REQUESTS])
    np.testing.assert_allclose(vectors(encoder, REQUESTS), expected, atol=1e-5)


@pytest.mark.parametrize(("family", "kind"), SPECS)
def test_batches_change_nothing(checkpoint: Callable[[str], Path], family: str, kind: str, vectors: Vectors) -> None:
    encoder = load(family, checkpoint(kind))
    single = np.concatenate([vectors(encoder, [request]) for request in REQUESTS])
    assert np.abs(single @ single.T - np.eye(len(single))).max() < 0.99  # they are all different
    payloads = [encoder.prepare(request)[0].payload for request in REQUESTS]
    np.testing.assert_allclose(encoder.forward("sequence", payloads), single, atol=1e-5)
    order = [3, 0, 5, 1, 4, 2, 0]
    np.testing.assert_allclose(vectors(encoder, [REQUESTS[n] for n in order]), single[order], atol=1e-5)
    left = type(encoder)(encoder._checkpoint, spec="left", padding="left")
    np.testing.assert_allclose(left.forward("sequence", payloads), single, atol=1e-5)


@pytest.mark.parametrize(("family", "kind"), SPECS)
def test_half_precision(checkpoint: Callable[[str], Path], family: str, kind: str, vectors: Vectors) -> None:
    encoder = load(family, checkpoint(kind))
    full = vectors(encoder, REQUESTS)
    assert full.dtype == np.float32
    encoder._checkpoint.model.to(torch.bfloat16)
    half = vectors(encoder, REQUESTS)
    assert half.dtype == np.float32
    assert 0.98 < (full * half).sum(axis=1).min() < 0.99999


def test_flat_and_grid_positions_differ(
    checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, vectors: Vectors
) -> None:
    from mmseek.models.qwen_vl_inputs import grid_positions

    encoder = load("vlm2vec", checkpoint("qwen2_vl"))
    flat = vectors(encoder, REQUESTS[2:3])
    monkeypatch.setattr(type(encoder), "positions", lambda self, kinds, grids: grid_positions(kinds, grids))
    assert float((flat @ vectors(encoder, REQUESTS[2:3]).T).item()) < 0.999


def test_a_token_that_the_post_processor_appends(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "with-end"
    shutil.copytree(checkpoint("qwen3_vl"), folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    end = tokenizer.token_to_id("<|endoftext|>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", end)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    without, with_end = load("qwen3-vl", checkpoint("qwen3_vl")), load("qwen3-vl", folder)
    request = REQUESTS[0]
    assert [*without.prepare(request)[0].payload.tokens, end] == [*with_end.prepare(request)[0].payload.tokens]
    assert without.identity.fingerprint != with_end.identity.fingerprint


def test_an_empty_item(checkpoint: Callable[[str], Path], vectors: Vectors) -> None:
    encoder = load("qwen3-vl", checkpoint("qwen3_vl"))
    empty, null = vectors(encoder, [EncodeRequest(Content(())), EncodeRequest(Content.of("NULL"))])
    np.testing.assert_allclose(empty, null, atol=1e-6)


def test_a_bad_item_fails_alone(checkpoint: Callable[[str], Path], vectors: Vectors) -> None:
    encoder = load("vlm2vec", checkpoint("qwen2_vl"))
    bad = [
        EncodeRequest(Content.of(Image(data=b"no picture"))),
        EncodeRequest(Content.of("what is <|image_pad|>?")),
        EncodeRequest(Content(())),
    ]
    found = list(encoder.stream([*bad, REQUESTS[0]]))
    assert [type(encoded.error) for encoded in found] == [MediaError, InputError, InputError, type(None)]
    np.testing.assert_allclose(found[3].vector, vectors(encoder, REQUESTS[:1])[0], atol=1e-6)


def test_a_long_text_is_cut_and_too_many_pictures_are_refused(
    checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load("vlm2vec", checkpoint("qwen2_vl"))
    encoder._checkpoint.tokenizer.enable_truncation(40)
    monkeypatch.setattr(type(encoder), "max_tokens", 40)
    long = EncodeRequest(Content.of("x" * 100))
    assert encoder.prepare(long)[0].cost == 40
    with pytest.raises(InputError, match="the pictures need 64 tokens"):
        encoder.prepare(EncodeRequest(Content.of(picture(224, 224))))
    with pytest.raises(InputError, match="leaves them no room"):
        encoder.prepare(EncodeRequest(Content.of("x" * 100, picture(56, 56))))


def test_costs_count_what_the_model_reads(checkpoint: Callable[[str], Path]) -> None:
    encoder = load("qwen3-vl", checkpoint("qwen3_vl"))
    (text,), (image,) = (encoder.prepare(EncodeRequest(Content.of(part))) for part in ("", picture(320, 320)))
    assert image.cost - text.cost == 100 + 2 - len("NULL")
    assert encoder.budgets == {"sequence": Budget(1024)}


def test_transparent_pixels_are_white(checkpoint: Callable[[str], Path]) -> None:
    encoder = load("qwen3-vl", checkpoint("qwen3_vl"))
    clear, white = PIL.Image.new("RGBA", (64, 64), (9, 9, 9, 0)), PIL.Image.new("RGB", (64, 64), "white")
    one, other = (encoder.prepare(EncodeRequest(Content.of(Image.from_pil(image))))[0] for image in (clear, white))
    assert one.key == other.key


def test_the_fingerprint_follows_the_files(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(checkpoint("qwen2_vl"), folder)
    first = load("vlm2vec", checkpoint("qwen2_vl")).identity
    assert load("vlm2vec", folder).identity.fingerprint == first.fingerprint
    assert (first.dim, first.spec) == (32, f"vlm2vec:{checkpoint('qwen2_vl')}")
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": STD, "image_std": STD}))
    assert load("vlm2vec", folder).identity.fingerprint != first.fingerprint


def test_no_model() -> None:
    with pytest.raises(SpecError, match=r"write vlm2vec:"):
        load_encoder("vlm2vec")


def test_a_model_of_another_family(checkpoint: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match="is a qwen3_vl model, and vlm2vec runs qwen2_vl and qwen2_5_vl"):
        load_encoder(f"vlm2vec:{checkpoint('qwen3_vl')}")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.json", None, "has no config.json"),
        ("config.json", "[]", "does not hold a JSON object"),
        ("tokenizer.json", "{", "cannot be read as JSON"),
        ("tokenizer.json", "{}", "is not a tokenizer"),
        ("preprocessor_config.json", "{}", "has no image_mean of three numbers"),
        ("model.safetensors", "broken", "cannot be loaded"),
    ],
)
def test_a_broken_checkpoint(
    checkpoint: Callable[[str], Path], tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(checkpoint("qwen2_vl"), folder)
    (folder / name).unlink()
    if text is not None:
        (folder / name).write_text(text)
    with pytest.raises(ModelError, match=message):
        load_encoder(f"vlm2vec:{folder}")


def test_weights_that_are_missing(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "holes"
    shutil.copytree(checkpoint("qwen3_vl"), folder)
    weights = load_file(folder / "model.safetensors")
    weights.pop(next(name for name in weights if name.endswith("layers.1.mlp.up_proj.weight")))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 of the weights, .*up_proj"):
        load_encoder(f"qwen3-vl:{folder}")


@pytest.mark.parametrize(
    ("family", "kind", "names"),
    [
        *[("vlm2vec", kind, {"language_model.": "model."}) for kind in ("qwen2_vl", "qwen2_5_vl")],
        *[
            (family, kind, {"language_model.": "model.language_model.", "visual.": "model.visual."})
            for family, kind in SPECS[:3]
        ],
    ],
)
def test_the_names_in_published_weights(
    checkpoint: Callable[[str], Path], tmp_path: Path, family: str, kind: str, names: dict[str, str], vectors: Vectors
) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "published"
    shutil.copytree(checkpoint(kind), folder)
    weights = load_file(folder / "model.safetensors")
    renamed = {
        new + name.removeprefix(old): value
        for name, value in weights.items()
        for old, new in names.items()
        if name.startswith(old)
    }
    renamed |= {name: value for name, value in weights.items() if not name.startswith(tuple(names))}
    renamed["lm_head.weight"] = torch.zeros(262, 32)
    assert set(renamed) != set(weights)
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    expected = vectors(load(family, checkpoint(kind)), REQUESTS[2:3])
    np.testing.assert_allclose(vectors(load(family, folder), REQUESTS[2:3]), expected, atol=1e-6)


def test_pictures_described_in_the_processors_file(
    checkpoint: Callable[[str], Path], tmp_path: Path, vectors: Vectors
) -> None:
    folder = tmp_path / "newer"
    shutil.copytree(checkpoint("qwen2_vl"), folder)
    (folder / "preprocessor_config.json").unlink()
    inner = {"image_mean": MEAN, "image_std": STD}
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": inner}))
    expected = vectors(load("vlm2vec", checkpoint("qwen2_vl")), REQUESTS[1:2])
    np.testing.assert_allclose(vectors(load("vlm2vec", folder), REQUESTS[1:2]), expected, atol=1e-6)


def test_an_adapter_without_its_model(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="LoRA adapter that does not name its base model"):
        load_encoder(f"vlm2vec:{tmp_path}")
