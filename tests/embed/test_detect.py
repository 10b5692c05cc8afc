"""`auto:`: which family the files of a model speak for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from mmseek import load_encoder
from mmseek.embed import FAMILIES, parse_spec
from mmseek.embed.detect import detect, resolve
from mmseek.errors import ModelError, SpecError

TRANSFORMERS = "text_model.embeddings.position_embedding.weight"
OPENAI = "visual.conv1.weight"


def model(
    root: Path, name: str, kind: str | None = None, *, files: tuple[str, ...] = (), weight: str | None = None
) -> Path:
    folder = root / name
    folder.mkdir()
    if kind is not None:
        (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    for file in files:
        (folder / file).write_text("{}")
    if weight is not None:
        save_file({weight: np.zeros(1, dtype=np.float32)}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("name", "kind", "files", "weight", "family", "reason"),
    [
        ("a", "bert", ("modules.json",), None, "st", "modules.json"),
        ("a", None, ("modules.json",), None, "st", "modules.json"),
        ("a", "clip", ("modules.json",), None, "st", "modules.json"),
        ("a", "clip", (), TRANSFORMERS, "clip", "config.json says clip"),
        ("clip_sf_large", "clip", (), TRANSFORMERS, "uniir-clip-sf", "UniIR"),
        ("a", None, (), f"clip_model.{OPENAI}", "uniir-clip-sf", "clip_model."),
        ("a", None, ("open_clip_config.json",), OPENAI, "clip", "open_clip"),
        ("UniIR-base", None, (), OPENAI, "uniir-clip-sf", "UniIR"),
        ("VLM2Vec-Qwen2VL-2B", "qwen2_vl", (), None, "vlm2vec", "qwen2_vl and its names vlm2vec"),
        ("gme-Qwen2-VL-2B-Instruct", "qwen2_vl", ("modules.json",), None, "gme", "qwen2_vl and its names gme"),
        ("a", "qwen2_vl", ("gme_inference.py",), None, "gme", "gme"),
        ("MM-Embed", "llava_next", (), None, "mm-embed", "llava_next and its names mm-embed"),
        ("e5-v", "llava_next", (), None, "e5-v", "llava_next and its names e5-v"),
        ("a", "qwen2_5_vl", (), None, "vlm2vec", "qwen2_5_vl"),
        ("VLM2Vec-LLaVa-Next", "llava_next", (), None, "vlm2vec", "llava_next and its names vlm2vec"),
        ("VLM2Vec-Full", "phi3_v", (), None, "vlm2vec", "phi3_v and its names vlm2vec"),
        ("a", "mllama", (), None, "mme5", "mllama"),
        ("a", "qwen3_vl", (), None, "qwen3-vl", "qwen3_vl"),
        ("Qwen3-VL-Embedding-2B", "qwen3_vl", ("modules.json",), None, "qwen3-vl", "qwen3_vl"),
    ],
)
def test_one_family(
    tmp_path: Path, name: str, kind: str | None, files: tuple[str, ...], weight: str | None, family: str, reason: str
) -> None:
    found = detect(model(tmp_path, name, kind, files=files, weight=weight))
    assert found.family == family
    assert reason in found.reason
    assert found.family in FAMILIES


@pytest.mark.parametrize(
    ("name", "kind", "files", "weight", "choices"),
    [
        ("a", "qwen2_vl", (), None, ["vlm2vec:", "gme:"]),
        ("gme-or-vlm2vec", "qwen2_vl", (), None, ["vlm2vec:", "gme:"]),
        ("programme", "qwen2_vl", ("modules.json",), None, ["vlm2vec:", "gme:", "st:"]),
        ("a", "qwen3_vl", ("modules.json",), None, ["qwen3-vl:", "st:"]),
        ("a", "llava_next", (), None, ["mm-embed:", "e5-v:", "vlm2vec:"]),
        ("a", None, (), OPENAI, ["clip:", "uniir-clip-sf:"]),
    ],
)
def test_several_families(
    tmp_path: Path, name: str, kind: str | None, files: tuple[str, ...], weight: str | None, choices: list[str]
) -> None:
    folder = model(tmp_path, name, kind, files=files, weight=weight)
    with pytest.raises(SpecError, match="may be of several families") as caught:
        detect(folder)
    assert [f"{choice}{folder}" in str(caught.value) for choice in choices] == [True] * len(choices)


def test_no_family(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="says bert, which no family runs"):
        detect(model(tmp_path, "a", "bert"))
    with pytest.raises(SpecError, match=r"neither modules\.json nor"):
        detect(model(tmp_path, "b"))
    with pytest.raises(SpecError, match="no CLIP's"):
        detect(model(tmp_path, "c", weight="encoder.weight"))
    with pytest.raises(ModelError, match="does not exist"):
        detect(tmp_path / "nowhere")
    broken = model(tmp_path, "d", "clip")
    (broken / "model.safetensors").write_text("short")
    with pytest.raises(ModelError, match="safetensors file that can be read"):
        detect(broken)
    (broken / "config.json").write_text("{")
    with pytest.raises(ModelError, match="JSON"):
        detect(broken)


@pytest.mark.parametrize(
    ("kind", "architecture", "family"),
    [("qwen2_5_vl", "JinaEmbeddingsV4Model", "jina-v4"), ("llama", "MLlama", "notellm2")],
)
def test_families_by_architecture(tmp_path: Path, kind: str, architecture: str, family: str) -> None:
    folder = model(tmp_path, "a", kind)
    (folder / "config.json").write_text(json.dumps({"model_type": kind, "architectures": [architecture]}))
    found = detect(folder)
    assert (found.family, found.reason) == (family, f"its config.json says {architecture}")


@pytest.mark.parametrize(("name", "files"), [("Qwen3-VL-Reranker-2B", ()), ("a", ("qwen3_vl_reranker.py",))])
def test_a_reranker_is_refused(tmp_path: Path, name: str, files: tuple[str, ...]) -> None:
    folder = model(tmp_path, name, "qwen3_vl", files=files)
    with pytest.raises(SpecError, match=f"gives no vectors: use it as --rerank qwen3-vl-reranker:{folder}"):
        detect(folder)


def test_a_folder_of_rerankers_may_hold_an_embedder(tmp_path: Path) -> None:
    (tmp_path / "rerankers").mkdir()
    assert detect(model(tmp_path / "rerankers", "Qwen3-VL-Embedding-2B", "qwen3_vl")).family == "qwen3-vl"


def test_a_cross_encoder_is_refused(tmp_path: Path) -> None:
    folder = model(tmp_path, "a", "bert", files=("modules.json",))
    (folder / "config_sentence_transformers.json").write_text('{"model_type": "CrossEncoder"}')
    with pytest.raises(SpecError, match="--rerank cross-encoder:"):
        detect(folder)


def test_a_hub_id_is_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model(tmp_path, "0123abcd", "qwen2_vl")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(folder))
    found, detection = resolve(parse_spec("auto:someone/gme-Qwen2-VL@v1", FAMILIES))
    assert str(found) == "gme:someone/gme-Qwen2-VL@v1"
    assert "gme" in detection.reason


def test_the_folders_around_a_model_have_names(tmp_path: Path) -> None:
    around = tmp_path / "models--someone--gme-2b" / "snapshots"
    around.mkdir(parents=True)
    assert detect(model(around, "0123abcd", "qwen2_vl")).family == "gme"
    assert detect(model(around, "vlm2vec", "qwen2_vl")).family == "vlm2vec"


def test_the_encoder_names_itself_with_its_family(model_folder: Path) -> None:
    found = load_encoder(f"auto:{model_folder}", device="cpu").identity
    assert found == load_encoder(f"st:{model_folder}", device="cpu").identity
    assert found.spec == f"st:{model_folder.resolve()}"


def test_no_model() -> None:
    with pytest.raises(SpecError, match="auto:FOLDER"):
        load_encoder("auto")
