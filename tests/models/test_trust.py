"""Whose code the user trusts, and that code is fetched for nobody else."""

from pathlib import Path
from typing import Any

import pytest

from mmseek.errors import ModelError
from mmseek.models.checkpoints import find_folder
from mmseek.models.spec import Spec
from mmseek.models.trust import code_refused, is_trusted


@pytest.mark.parametrize(
    ("setting", "model", "revision", "trusted"),
    [
        ("", "own/model", None, False),
        ("own/model", "own/model", None, True),
        ("another/one, own/model", "own/model", "v1", True),
        ("own/model@v1", "own/model", "v1", True),
        ("own/model@v1", "own/model", "v2", False),
        ("own/model@v1", "own/model", None, False),
        ("own", "own/model", None, False),
        ("true", "own/model", None, False),
        ("own/model", None, None, False),
    ],
)
def test_names(
    monkeypatch: pytest.MonkeyPatch, setting: str, model: str | None, revision: str | None, trusted: bool
) -> None:
    monkeypatch.setenv("MMSEEK_TRUST_REMOTE_CODE", setting)
    assert is_trusted(Spec("st", model, revision)) is trusted


def test_the_error_says_what_would_run_and_how_to_allow_it() -> None:
    error = code_refused(Spec("st", "own/model"), "its modules name own.Module")
    assert isinstance(error, ModelError)
    assert str(error) == (
        "own/model needs code of its own (its modules name own.Module), which would run with all your rights and is "
        "not run: read that code and then set MMSEEK_TRUST_REMOTE_CODE=own/model, or use another model"
    )


@pytest.mark.parametrize("trusted", [True, False])
def test_code_is_fetched_of_trusted_models_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool) -> None:
    asked: list[str] = []

    def download(*_: Any, allow_patterns: list[str], **__: Any) -> str:
        asked.extend(allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    monkeypatch.setenv("MMSEEK_TRUST_REMOTE_CODE", "own/model" if trusted else "own/other")
    assert find_folder(Spec("st", "own/model")) == tmp_path
    assert ("*.py" in asked) is trusted
