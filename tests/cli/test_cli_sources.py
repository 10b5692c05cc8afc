"""`mmseek index` with what its sources have besides text: words in scans, figures, addresses, captions."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from mmseek.testing import FakeEncoder

Cli = Callable[..., Any]


def found(cli: Cli, collection: Path, words: str) -> list[str]:
    hits = cli("search", words, "-c", collection, "--mode", "lexical", "--json").document["hits"]
    return [hit["id"] for hit in hits]


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "pond.png"
    PIL.Image.new("RGB", (64, 48), "green").save(path)
    return path


def test_captions(
    cli: Cli, fake: FakeEncoder, picture: Path, tmp_path: Path, fake_chat: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMSEEK_CACHE_DIR", str(tmp_path / "cache"))
    fake_chat.answers = ["ducks on a pond"]
    options = ("--caption", fake_chat.url, "--caption-model", "vlm", "--caption-prompt", "What is it?")
    done = cli("index", picture, "-c", tmp_path / "c", *options, "--json").document
    assert (done["indexed"], done["failed"]) == (2, 0)
    assert found(cli, tmp_path / "c", "ducks") == ["pond.png#caption"]
    assert fake_chat.parts[-1]["text"] == "What is it?"
    assert len(list((tmp_path / "cache/captions").iterdir())) == 1
    assert cli("verify", "-c", tmp_path / "c").code == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--caption", "http://localhost:1/v1"), "add --caption-model NAME"),
        (("--caption-model", "x"), "add --caption URL"),
        (("--url-host", "example.org"), "give both"),
    ],
)
def test_options_that_need_another(
    cli: Cli, fake: FakeEncoder, picture: Path, tmp_path: Path, options: tuple[str, ...], words: str
) -> None:
    done = cli("index", picture, "-c", tmp_path / "c", *options)
    assert done.code == 2
    assert words in " ".join(done.err.split())


def test_urls_need_leave_and_private_ones_are_never_fetched(
    cli: Cli, fake: FakeEncoder, tmp_path: Path, web: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMSEEK_CACHE_DIR", str(tmp_path / "cache"))
    url = web.url("/a.html", "127.0.0.1")
    assert "pass --allow-urls" in " ".join(cli("index", url, "-c", tmp_path / "c").err.split())
    done = cli("index", url, "-c", tmp_path / "c", "--allow-urls", "--json")
    assert (done.code, done.document["failed"]) == (1, 1)
    assert "private or reserved address" in done.document["failures"][0]["reason"]
    assert web.asked == []
    monkeypatch.setenv("MMSEEK_OFFLINE", "1")
    assert "MMSEEK_OFFLINE is set" in " ".join(cli("index", url, "-c", tmp_path / "c", "--allow-urls").err.split())


def test_scans_figures_and_tables_by_option(
    cli: Cli, fake: FakeEncoder, picture: Path, tmp_path: Path, make_pdf: Callable[..., bytes]
) -> None:
    buffer = io.BytesIO()
    PIL.Image.open(picture).save(buffer, "PDF")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/scan.pdf").write_bytes(buffer.getvalue())
    (tmp_path / "docs/text.pdf").write_bytes(make_pdf(["words"]))
    options = ("--ocr", "auto", "--pdf-figures", "--pdf-tables")
    done = cli("index", tmp_path / "docs", "-c", tmp_path / "c", *options, "--json").document
    assert (done["indexed"], done["failed"]) == (2, 0)
    assert json.loads(cli("index", tmp_path / "docs", "-c", tmp_path / "c", *options, "--json").out)["unchanged"] == 2
