"""Scanned pages on their way through a collection: read, stored, and found by their words."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import pytest

from mmseek import Content, Document, Query, Retriever
from mmseek.index.corpus import read_corpus
from mmseek.pipeline import index_corpus
from mmseek.testing import FakeEncoder


def scanned(*pages: str) -> bytes:
    """A PDF without any text layer."""
    pictures = []
    for words in pages:
        picture = PIL.Image.new("RGB", (420, 120), "white")
        PIL.ImageDraw.Draw(picture).text((14, 40), words, fill="black", font=PIL.ImageFont.load_default(26))
        pictures.append(picture)
    buffer = io.BytesIO()
    pictures[0].save(buffer, "PDF", save_all=True, append_images=pictures[1:])
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path, make_pdf: Callable[..., bytes]) -> Path:
    folder = tmp_path / "papers"
    folder.mkdir()
    (folder / "scan.pdf").write_bytes(scanned("harbour tides", "windmill sails"))
    (folder / "text.pdf").write_bytes(make_pdf(["the duck pond"]))
    return folder


def test_a_scan_is_found_by_its_words(folder: Path, tmp_path: Path) -> None:
    encoder = FakeEncoder()
    with Retriever.open(tmp_path / "index", encoder, mode="create") as retriever:

        def index(**options: object) -> tuple[int, int]:
            report = index_corpus(read_corpus(folder, **options), encoder, retriever.collection)  # type: ignore[arg-type]
            assert report.ok
            return report.indexed, report.unchanged

        def found(words: str) -> list[str]:
            return [hit.id for hit in retriever.search(Query(Content.of(words), mode="lexical")).hits]

        assert index() == (3, 0)
        assert found("windmill") == []
        assert index(ocr="auto") == (2, 1), "the page with a text layer is as it was"
        assert found("windmill") == ["scan.pdf#2"]
        assert found("harbour") == ["scan.pdf#1"]
        assert index(ocr="auto") == (0, 3)


def test_parts_of_pages_leave_with_them(folder: Path, tmp_path: Path, make_pdf: Callable[..., bytes]) -> None:
    encoder = FakeEncoder()
    with Retriever.open(tmp_path / "index", encoder, mode="create") as retriever:
        index_corpus(read_corpus(folder), encoder, retriever.collection)
        parents = {"scan.pdf#1": 3, "scan.pdf#2": 2, "other.pdf#1": 1}
        names = {f"{page}#{number}": page for page, count in parents.items() for number in range(1, count + 1)}
        retriever.add([Document(name, Content.of(name), parent_id=page) for name, page in names.items()])
        retriever.add([Document("scan.pdf#2#caption", Content.of("sails"), parent_id="scan.pdf")])
        (folder / "scan.pdf").write_bytes(scanned("harbour tides"))

        report = index_corpus(read_corpus(folder), encoder, retriever.collection)

        assert {document.id for document in retriever.collection.documents()} == {
            "scan.pdf#1",
            "text.pdf#1",
            "other.pdf#1#1",
        }
        assert report.removed == 7
