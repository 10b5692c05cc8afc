"""`clip` with open_clip's models and names, against the package itself."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch
from safetensors.torch import save_file

from mmseek import Content, EncodeRequest, Image, load_encoder
from mmseek.embed import open_clip_tower
from mmseek.embed.open_clip_tower import OpenClipTower, by_name
from mmseek.errors import MissingExtra, ModelError, SpecError
from mmseek.models.spec import Spec

SIZES: dict[str, Any] = {"layers": 2, "width": 64}
TEXT = {**SIZES, "heads": 1, "vocab_size": 49408, "context_length": 32}
MODELS: dict[str, dict[str, Any]] = {
    # A pool that looks at all patches, and no mark of the start: what transformers' CLIP has not.
    "pooled": {
        "embed_dim": 48,
        "vision_cfg": {**SIZES, "image_size": 32, "patch_size": 16, "pool_type": "avg", "final_ln_after_pool": True},
        "text_cfg": TEXT,
    },
    "plain": {"embed_dim": 48, "vision_cfg": {**SIZES, "image_size": 32, "patch_size": 16}, "text_cfg": TEXT},
}
STEPS = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic", "resize_mode": "squash"}


@pytest.fixture(scope="module", params=MODELS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import open_clip

    place = tmp_path_factory.mktemp(request.param)
    config = {"model_cfg": MODELS[request.param], "preprocess_cfg": STEPS}
    (place / "open_clip_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model = open_clip.create_model(f"local-dir:{place}", load_weights=False, pretrained_text=False)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.normal_(0, 0.2)
    weights = {name: value.contiguous().clone() for name, value in model.state_dict().items()}
    save_file(weights, place / "open_clip_model.safetensors")
    return place


@pytest.fixture
def requests(picture: Callable[[int], Image]) -> list[EncodeRequest]:
    contents = [
        Content.of("a red boat"),
        Content.of(picture(1)),
        Content.of(picture(2), "a dog"),
        Content.of("x " * 90),
    ]
    return [EncodeRequest(content) for content in contents]


def vectors(encoder: Any, requests: list[EncodeRequest]) -> np.ndarray:
    found = []
    for encoded in encoder.stream(requests):
        assert encoded.vector is not None, encoded.error
        found.append(encoded.vector)
    return np.stack(found)


def plain(folder: Path, request: EncodeRequest) -> np.ndarray:
    """With the package's own three calls."""
    import open_clip

    model, steps = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    model.eval()
    total = torch.zeros(48)
    with torch.no_grad():
        if request.content.text:
            total += model.encode_text(tokenizer([request.content.text.strip()]), normalize=True)[0]
        for image in request.content.images:
            pixels = steps(PIL.Image.open(io.BytesIO(image.data or b"")))
            total += model.encode_image(pixels[None], normalize=True)[0]
    return (total / total.norm()).numpy()


def test_equal_to_the_package(folder: Path, requests: list[EncodeRequest]) -> None:
    encoder = load_encoder(f"clip:{folder}", device="cpu")
    found = vectors(encoder, requests)
    np.testing.assert_allclose(found, [plain(folder, request) for request in requests], atol=1e-5)
    single = np.concatenate([vectors(encoder, [request]) for request in requests])
    np.testing.assert_allclose(found, single, atol=1e-5)
    assert encoder.identity.dim == 48


def test_a_pickle_beside_the_weights_is_not_opened(folder: Path, tmp_path: Path, requests: list[EncodeRequest]) -> None:
    for path in folder.iterdir():
        name = "model.safetensors" if path.suffix == ".safetensors" else path.name
        (tmp_path / name).write_bytes(path.read_bytes())
    (tmp_path / "open_clip_pytorch_model.bin").write_bytes(b"open_clip would take this one")
    expected = vectors(load_encoder(f"clip:{folder}", device="cpu"), requests)
    np.testing.assert_allclose(vectors(load_encoder(f"clip:{tmp_path}", device="cpu"), requests), expected, atol=1e-6)


def test_a_damaged_folder(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_bytes((folder / "open_clip_config.json").read_bytes())
    save_file({"other": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="cannot be loaded by open_clip"):
        OpenClipTower.load(tmp_path)


def test_names() -> None:
    spec = Spec("clip", "ViT-B-32/laion2b_s34b_b79k")
    assert by_name(spec) == Spec("clip", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K")
    assert by_name(Spec("clip", "openai/clip-vit-base-patch32")) == Spec("clip", "openai/clip-vit-base-patch32")
    with pytest.raises(SpecError, match=r"open_clip has no weights 'nonsense' of ViT-B-32: it has .*laion2b_s34b_b79k"):
        by_name(Spec("clip", "ViT-B-32/nonsense"))


def test_without_the_package(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_clip_tower, "find_spec", lambda name: None)
    monkeypatch.delitem(sys.modules, "open_clip", raising=False)
    with pytest.raises(MissingExtra, match=r"pip install 'mmseek\[clip\]'"):
        load_encoder("clip:ViT-B-32/laion2b_s34b_b79k", device="cpu")
    with pytest.raises(MissingExtra, match=r"a CLIP that only open_clip runs, needs .*mmseek\[clip\]"):
        load_encoder(f"clip:{folder}", device="cpu")
    assert by_name(Spec("clip", "openai/clip-vit-base-patch32")).model == "openai/clip-vit-base-patch32"
