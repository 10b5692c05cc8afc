"""The program run inside this process, with an encoder that needs no weights."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from mmseek.cli import app as program
from mmseek.cli import run
from mmseek.testing import FakeEncoder


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout; fails if there is anything else."""
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found

    @property
    def error(self) -> str:
        """The one sentence on stderr."""
        (line,) = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert "Traceback" not in self.err
        return line.removeprefix("error: ")


Cli = Callable[..., Result]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a command line. The process's own noise settings stay as they are."""
    monkeypatch.setattr(program, "hush", lambda: None)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> Result:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeEncoder:
    """Stands in for `mini`; the spec `other` is an encoder with another fingerprint."""
    encoder = FakeEncoder(spec="mini", fail_on="unspeakable")
    encoders = {"mini": encoder, "other": FakeEncoder(spec="other", dim=8)}
    monkeypatch.setattr("mmseek.embed.load_encoder", lambda spec="mini", *, device=None: encoders[spec])
    return encoder


@pytest.fixture
def corpus(tmp_path: Path, lines: Callable[..., Path]) -> Path:
    """Three items: a text, a picture, both."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name, colour in (("red", (220, 20, 20)), ("blue", (20, 20, 220))):
        Pillow.new("RGB", (32, 24), colour).save(folder / f"{name}.png")
    return lines(
        folder / "items.jsonl",
        {"id": "t", "text": "a red bike", "metadata": {"lang": "en"}},
        {"id": "i", "image": "red.png", "metadata": {"caption": "all of it is red"}},
        {"id": "b", "image": "blue.png", "text": "the sea"},
    )


@pytest.fixture
def collection(tmp_path: Path, corpus: Path, cli: Cli, fake: FakeEncoder) -> Path:
    """The three items, indexed."""
    place = tmp_path / "collection"
    assert cli("index", corpus, "-c", place).code == 0
    return place


@pytest.fixture
def lines() -> Callable[..., Path]:
    """Write items, or lines as they are, into a JSONL file."""

    def write(path: Path, *items: dict[str, Any] | str) -> Path:
        rows = [item if isinstance(item, str) else json.dumps(item, ensure_ascii=False) for item in items]
        path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the installed program in a process of its own."""
    command = shutil.which("mmseek", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.fail("the console script is not installed")

    def call(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        line = [command, *map(str, arguments)]
        return subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=400, check=False, **options)

    return call
