"""`import mmseek` is cheap, and its core stays so."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import mmseek

HEAVY = ("torch", "transformers", "sentence_transformers", "faiss", "PIL", "numpy", "pydantic", "fastapi", "typer")


def loaded_by(statement: str) -> set[str]:
    """The top-level modules in memory after a statement, in a fresh interpreter."""
    script = (
        f"{statement}\nimport sys, json; print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_import_loads_nothing_heavy() -> None:
    loaded = loaded_by("import mmseek; dir(mmseek); mmseek.__all__")
    assert "mmseek" in loaded
    assert loaded.isdisjoint(HEAVY)


def test_this_check_can_fail() -> None:
    assert "PIL" in loaded_by("import mmseek.media")


@pytest.mark.parametrize("module", ["errors", "protocols", "config", "items", "media", "digest", "jsonl"])
def test_core_loads_no_model_library(module: str) -> None:
    loaded = loaded_by(f"import mmseek.{module}")
    assert loaded.isdisjoint({"torch", "transformers", "sentence_transformers", "faiss", "numpy"})


def test_import_reads_no_setting() -> None:
    script = "import os; os.environ['MMSEEK_THREADS'] = 'many'; import mmseek.media, mmseek.items, mmseek.config"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_public_names() -> None:
    assert sorted(mmseek.__all__) == mmseek.__all__ == dir(mmseek)
    eager = set(mmseek.__all__) - set(mmseek._LAZY)
    assert all(name in vars(mmseek) for name in eager)
    assert set(mmseek._LAZY) <= set(mmseek.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        mmseek.nothing  # noqa: B018


@pytest.mark.slow
def test_every_public_name_can_be_loaded() -> None:
    script = "import mmseek\nfor name in mmseek.__all__: getattr(mmseek, name)"
    subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=True)
