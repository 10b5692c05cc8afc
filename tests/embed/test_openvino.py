"""The backend openvino against torch, on the same checkpoints, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import BertConfig, BertModel, CLIPModel

from mmseek import Content, EncodeRequest, Image, load_encoder
from mmseek.errors import ConfigError, MissingExtra, ModelError
from mmseek.models import openvino as module
from mmseek.models.openvino import BUCKET, bucketed, compiled
from mmseek.training.tiny import tiny_clip

pytest.importorskip("openvino", reason="the extra [openvino] is not installed")

Vectors = Callable[[Any, Sequence[EncodeRequest]], np.ndarray]
# Of a value of a vector of length 1; what was seen is below 1e-6.
WITHIN = 1e-4


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One for this file: converting takes seconds."""
    folder = tmp_path_factory.getbasetemp() / "openvino-cache"
    monkeypatch.setenv("MMSEEK_CACHE_DIR", str(folder))
    return folder


def redrawn(model: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.eval()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clip(tmp_path_factory.mktemp("clip"), side=32)


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Path:
    """A small random BERT with the word pieces of the text model, as sentence-transformers saves it."""
    from transformers import AutoTokenizer

    parts, folder = tmp_path_factory.mktemp("parts"), tmp_path_factory.mktemp("st") / "model"
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    redrawn(BertModel(BertConfig(vocab_size=len(tokenizer), **shape))).save_pretrained(parts)
    tokenizer.save_pretrained(parts)
    SentenceTransformer(modules=[Transformer(str(parts)), Pooling(32, "mean")], device="cpu").save_pretrained(
        str(folder)
    )
    return folder


def mixed(picture: Callable[[int], Image]) -> list[EncodeRequest]:
    texts = ["a", "a red bike by the sea", "word " * 60, "letters and more " * 9]
    contents = [Content.of(text) for text in texts] + [Content.of(picture(n)) for n in range(5)]
    return [EncodeRequest(content) for content in [*contents, Content.of(picture(9), "both")]]


@pytest.mark.parametrize("family", ["clip", "mini"])
def test_gives_what_torch_gives(
    family: str, clip: Path, picture: Callable[[int], Image], vectors: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, requests = f"clip:{clip}" if family == "clip" else family, mixed(picture)
    plain = load_encoder(spec, device="cpu", backend="torch")
    fast = load_encoder(spec, device="cpu", backend="openvino")
    assert fast.identity == plain.identity  # one collection serves both
    expected, rows = vectors(plain, requests), vectors(fast, requests)
    np.testing.assert_allclose(rows, expected, atol=WITHIN)
    assert np.abs(expected - expected[::-1]).max() > 0.01  # the rows do differ
    # Alone, reversed, and from several threads at once.
    np.testing.assert_allclose(np.stack([vectors(fast, [one])[0] for one in requests]), rows, atol=1e-5)
    with ThreadPoolExecutor(4) as pool:
        for again in pool.map(lambda _: vectors(fast, requests[::-1]), range(4)):
            np.testing.assert_allclose(again[::-1], rows, atol=1e-5)
    # The second time nothing is converted.
    monkeypatch.setattr(module, "_converted", lambda *_: pytest.fail("converted again"))
    anew = load_encoder(spec, device="cpu", backend="openvino")
    np.testing.assert_allclose(vectors(anew, requests[:1]), rows[:1], atol=1e-5)


def test_runs_a_text_model_of_sentence_transformers(
    sentences: Path, picture: Callable[[int], Image], vectors: Vectors
) -> None:
    requests = [request for request in mixed(picture) if not request.content.images]
    plain = load_encoder(f"st:{sentences}", device="cpu")
    fast = load_encoder(f"st:{sentences}", device="cpu", backend="openvino")
    assert fast.identity == plain.identity
    rows = vectors(fast, requests)
    np.testing.assert_allclose(rows, vectors(plain, requests), atol=WITHIN)
    np.testing.assert_allclose(np.stack([vectors(fast, [one])[0] for one in requests]), rows, atol=1e-5)


def test_a_setting_is_a_wish_and_an_argument_an_order(
    clip: Path, tiny_vlm: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMSEEK_BACKEND", "openvino")
    assert "OpenVino" in type(load_encoder(f"clip:{clip}", device="cpu").tower).__name__  # type: ignore[attr-defined]
    assert "OpenVino" not in type(load_encoder(f"clip:{clip}", device="cpu", backend="torch").tower).__name__  # type: ignore[attr-defined]
    vlm = f"vlm2vec:{tiny_vlm('qwen2_vl')}"
    load_encoder(vlm, device="cpu")
    with pytest.raises(ConfigError, match="vlm2vec is run by torch only"):
        load_encoder(vlm, device="cpu", backend="openvino")
    with pytest.raises(ConfigError, match="no backend 'onnx': take one of auto, torch, openvino"):
        load_encoder("mini", backend="onnx")


def test_says_what_it_cannot_run(
    clip: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, picture: Callable[[int], Image]
) -> None:
    with pytest.raises(ConfigError, match="runs on the CPU and not on mps"):
        module.check_openvino("mps")
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"pip install 'mmseek\[openvino\]'"):
        load_encoder(f"clip:{clip}", device="cpu", backend="openvino")


def test_a_picture_model_of_sentence_transformers_is_refused(clip: Path, tmp_path: Path) -> None:
    from transformers import CLIPImageProcessorPil, CLIPProcessor, CLIPTokenizer

    parts, folder = tmp_path / "parts", tmp_path / "model"
    CLIPModel.from_pretrained(clip).save_pretrained(parts)
    CLIPProcessor(CLIPImageProcessorPil(), CLIPTokenizer.from_pretrained(clip)).save_pretrained(parts)
    SentenceTransformer(modules=[Transformer(str(parts))], device="cpu").save_pretrained(str(folder))
    with pytest.raises(ModelError, match="begin with a transformer and read text only"):
        load_encoder(f"st:{folder}", device="cpu", backend="openvino")


def test_a_damaged_conversion_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMSEEK_CACHE_DIR", str(tmp_path))
    layer, made = torch.nn.Linear(3, 2).eval(), []

    def ready() -> module.Compiled:
        def give() -> torch.nn.Module:
            made.append(1)
            return layer

        return compiled(give, lambda: [torch.zeros(2, 3)], [(-1, 3)], fingerprint="f", part="p", lanes=1)

    values = np.ones((4, 3), dtype=np.float32)
    rows = ready()(values)
    np.testing.assert_allclose(ready()(values), rows)
    assert len(made) == 1
    (description,) = tmp_path.glob("openvino/*.xml")
    description.write_text("<net")
    np.testing.assert_allclose(ready()(values), rows)
    description.with_suffix(".bin").unlink()
    np.testing.assert_allclose(ready()(values), rows)
    assert len(made) == 3
    np.testing.assert_allclose(rows, layer(torch.from_numpy(values)).detach().numpy(), atol=1e-6)


def test_what_cannot_be_converted_is_a_sentence() -> None:
    def broken() -> torch.nn.Module:
        raise ValueError("no such\nlayer")

    with pytest.raises(ModelError, match=r"cannot run p \(ValueError: no such layer\): leave out the backend openvino"):
        compiled(broken, list, [], fingerprint="f2", part="p", lanes=1)


def test_precision_is_float32_unless_another_is_asked_for(clip: Path, picture: Callable[[int], Image]) -> None:
    spec, content = f"clip:{clip}", [Content.of(picture(1))]
    exact = load_encoder(spec, device="cpu", backend="openvino").encode_document(content)
    rough = load_encoder(spec, device="cpu", backend="openvino", precision="bfloat16").encode_document(content)
    assert float((exact @ rough.T)[0, 0]) > 0.999
    with pytest.raises(ConfigError, match="clip runs in float32 only"):
        load_encoder(spec, device="cpu", precision="bfloat16")


def test_rows_grow_by_buckets() -> None:
    numbers, mask = bucketed([[1] * 17, [2]], padding=7, longest=77)
    assert numbers.shape == mask.shape == (2, 2 * BUCKET)
    assert numbers[1].tolist() == [2] + [7] * 31
    assert mask.sum(1).tolist() == [17, 1]
    assert bucketed([[1] * 70], padding=0, longest=77)[0].shape == (1, 77)
