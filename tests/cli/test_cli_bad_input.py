"""A folder with everything that is wrong with files, at its true size: a sentence each, and the rest is indexed."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from mmseek.testing import FakeEncoder

Cli = Callable[..., Any]

GIGABYTE = 2**30
DEEP = 10_000


def one_line(path: Path, start: bytes = b"") -> None:
    """A file of a gigabyte and no line break, that takes no room on the disk."""
    with path.open("wb") as stream:
        stream.write(start)
        stream.seek(GIGABYTE - 1)
        stream.write(b"x")


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return buffer.getvalue()


def tarred(name: str, body: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.size = len(body)
        archive.addfile(info, io.BytesIO(body))
    return buffer.getvalue()


def picture() -> bytes:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path, make_pdf: Callable[..., bytes]) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    bomb = zipped({"word/document.xml": bytes(80 * 2**20)})
    for name, body in {
        # what cannot be used
        "corrupt.pdf": make_pdf(["lost"])[:40],
        "bomb.zip": bomb,
        "bomb.docx": bomb,
        "up.zip": zipped({"../../up.txt": b"words", "in.txt": b"inside a zip"}),
        "up.tar": tarred("../up.txt", b"words"),
        "noise.txt": bytes(range(256)) * 8,
        "deep.jsonl": b'{"id": "deep", "text": '
        + b"[" * DEEP
        + b"]" * DEEP
        + b"}\n"
        + b'{"id": "flat", "text": "flat"}\n',
        "photo.jpg": b"no picture at all",
        # what can, whatever it looks like
        "page.pdf": picture(),
        "text.docx": make_pdf(["a page under another name"]),
        "deep.html": b"<div><b>" * DEEP + b"deep words" + b"</b></div>" * DEEP,
        "deep.md": b"> " * DEEP + b"deep quote\n\n" + b"- " * DEEP + b"deep list",
        "latin.txt": "Über den Fluss führt eine Brücke, und am Ufer stehen Bäume.".encode("latin-1"),
        "wide.txt": "Am Ufer stehen Bäume.".encode("utf-16"),
        "good.txt": b"good words",
    }.items():
        (folder / name).write_bytes(body)
    for name in ("line.txt", "line.md", "line.html", "line.jsonl"):
        one_line(folder / name)
    one_line(folder / "line.csv", b"text\n")
    (folder / "loop").mkdir()
    (folder / "loop" / "back").symlink_to(folder)
    (folder / "itself").symlink_to("itself")
    return folder


@pytest.mark.slow
def test_a_sentence_each_and_the_rest_is_indexed(cli: Cli, fake: FakeEncoder, folder: Path, tmp_path: Path) -> None:
    done = cli("index", folder, "-c", tmp_path / "c", "--json")

    assert done.code == 1
    assert done.document["indexed"] == done.document["documents"] == 9
    reasons = {Path(each["source"]).name: each["reason"] for each in done.document["failures"]}
    assert reasons.keys() == {
        *("corrupt.pdf", "bomb.zip", "bomb.docx", "up.txt", "noise.txt", "deep.jsonl", "photo.jpg"),
        *("line.txt", "line.md", "line.html", "line.jsonl", "line.csv"),
    }
    assert done.document["failed"] == 13, "up.txt is in two archives"
    for name, words in {
        "corrupt.pdf": "is a damaged PDF",
        "bomb.zip": "as only a bomb does",
        "bomb.docx": "unfolds to more than 200 times its size",
        "up.txt": "leads outside of the archive",
        "line.txt": "is a text of more than 64 MiB",
        "photo.jpg": "photo.jpg",
    }.items():
        assert words in reasons[name]
    for each in done.document["failures"]:
        assert "\n" not in each["reason"]
        assert len(each["reason"]) < 300
    rows = cli("search", "words", "-c", tmp_path / "c", "--mode", "lexical", "-k", "20", "--json").document["hits"]
    assert {row["id"] for row in rows} == {"good.txt", "deep.html"}
    assert cli("verify", "-c", tmp_path / "c").code == 0
    assert not (tmp_path / "up.txt").exists()
