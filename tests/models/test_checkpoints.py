"""Where a model's files are looked for. The hub's client is replaced: nothing is fetched."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

from mmseek.errors import ModelError
from mmseek.models.checkpoints import files_sha256, find_checkpoint, weight_files
from mmseek.models.spec import Spec, absolute


def test_a_hub_id_with_its_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").touch()
    asked: dict[str, Any] = {}

    def snapshot(model: str, **options: Any) -> str:
        asked.update(options, model=model)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert find_checkpoint(Spec("clip", "someone/model", "abc")) == tmp_path
    assert (asked["model"], asked["revision"], asked["local_files_only"]) == ("someone/model", "abc", False)
    wanted = [name for name in NAMES if any(fnmatch(name, pattern) for pattern in asked["allow_patterns"])]
    assert wanted == ["model.safetensors", "config.json", "merges.txt"]


NAMES = ["model.safetensors", "config.json", "merges.txt", "pytorch_model.bin", "clip.pth", "modeling.py", "a.pkl"]


def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot(model: str, **options: Any) -> str:
        raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    with pytest.raises(ModelError, match=r"someone/model@v2 .* cannot be fetched \(OSError\)"):
        find_checkpoint(Spec("clip", "someone/model", "v2"))


def test_a_hub_model_without_safetensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(ModelError, match="never opened: convert them once"):
        find_checkpoint(Spec("clip", "someone/model"))


def test_which_files_are_the_weights(tmp_path: Path) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / name).write_text(name)
    with pytest.raises(ModelError, match="several"):
        weight_files(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    assert [path.name for path in weight_files(tmp_path)] == ["a.safetensors", "b.safetensors"]
    (tmp_path / "model.safetensors").touch()
    assert [path.name for path in weight_files(tmp_path)] == ["model.safetensors"]


def test_a_folder_keeps_its_name_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert absolute(Spec("clip", "model")) == f"clip:{tmp_path.resolve() / 'model'}"
    assert absolute(Spec("clip", "someone/model", "v2")) == "clip:someone/model@v2"


def test_the_hash_is_of_names_contents_and_recipe(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("1")
    second.write_text("2")
    hashed = files_sha256([first, second], recipe="r 1")
    assert files_sha256([second, first], recipe="r 1") == hashed
    assert files_sha256([first, second], recipe="r 2") != hashed
    second.write_text("3")
    assert files_sha256([first, second], recipe="r 1") != hashed
    with pytest.raises(ModelError, match="cannot be read"):
        files_sha256([tmp_path / "c"], recipe="r 1")
