"""Specs of rerankers: what answers, and what the sentences say if nothing does."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import mmseek
from mmseek.errors import ModelError, SpecError
from mmseek.rerank import FAMILIES, load_reranker, parse_spec


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_its_loader(name: str) -> None:
    module, _, function = FAMILIES[name].loader.partition(":")
    assert callable(getattr(import_module(module), function))
    assert FAMILIES[name].name == name


@pytest.mark.parametrize(
    "text",
    ["cross-encoder:a/b", "cross-encoder:a/b@v1", "cross-encoder:/a@b/c", "qwen3-vl-reranker:C:\\models\\q"],
)
def test_a_spec_and_back(text: str) -> None:
    assert str(parse_spec(text, FAMILIES)) == text


def test_a_folder_may_hold_an_at_sign(tmp_path: Path) -> None:
    folder = tmp_path / "model@home"
    assert parse_spec(f"cross-encoder:{folder.name}", FAMILIES).revision == "home"
    folder.mkdir()
    assert parse_spec(f"cross-encoder:{folder}", FAMILIES).model == str(folder)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nothing", "where FAMILY is one of cross-encoder, jina-m0, lamra"),
        ("nothing:x", "unknown reranker 'nothing:x'"),
        ("", "unknown reranker ''"),
        ("cross-encoder", "write cross-encoder:HUB_ID or cross-encoder:FOLDER"),
        ("cross-encoder:", "names no model"),
        ("cross-encoder:a@", "no revision"),
    ],
)
def test_what_is_no_spec(text: str, sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        mmseek.load_reranker(text)


@pytest.mark.parametrize(
    ("model", "sentence"),
    [("/no/where", "does not exist"), ("./no", "does not exist"), ("org/model", "MMSEEK_OFFLINE is set")],
)
def test_what_is_not_there(model: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMSEEK_OFFLINE", "1")
    for family in FAMILIES.keys() - {"late-interaction", "mini"}:  # which needs an encoder
        with pytest.raises(ModelError, match=sentence):
            load_reranker(f"{family}:{model}", device="cpu")


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    with pytest.raises(ModelError, match="is a file"):
        load_reranker(f"cross-encoder:{file}", device="cpu")
    with pytest.raises(ModelError, match=r"has no config\.json"):
        load_reranker(f"cross-encoder:{tmp_path}", device="cpu")
    for broken in ("{", "[]"):
        (tmp_path / "config.json").write_text(broken)
        with pytest.raises(ModelError, match=r"config\.json"):
            load_reranker(f"cross-encoder:{tmp_path}", device="cpu")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="no cross-encoder that loads"):
        load_reranker(f"cross-encoder:{tmp_path}", device="cpu")


def test_a_further_module_may_not_be_a_pickle(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "modules.json").write_text('[{"idx": 0, "path": ""}, {"idx": 1, "path": "1_Dense"}]')
    (tmp_path / "1_Dense").mkdir()
    (tmp_path / "1_Dense" / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match="is a pickle"):
        load_reranker(f"cross-encoder:{tmp_path}", device="cpu")
    (tmp_path / "modules.json").write_text('[{"idx": 0}]')
    with pytest.raises(ModelError, match="not a list of modules"):
        load_reranker(f"cross-encoder:{tmp_path}", device="cpu")


def test_the_table_of_families_loads_no_heavy_library() -> None:
    code = "import sys, mmseek.rerank; print({'torch', 'transformers', 'numpy', 'PIL'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"
