"""Indexing again touches only what changed, and what files no longer have leaves the collection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mmseek import Content, Document
from mmseek.index.corpus import read_corpus
from mmseek.pipeline import IndexReport, index_corpus
from mmseek.protocols import Collection
from mmseek.testing import FakeEncoder

Make = Callable[..., bytes]


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    Path("docs").mkdir()
    return Path("docs")


@pytest.fixture
def run(collection: Collection, encoder: FakeEncoder) -> Callable[..., IndexReport]:
    def index(**options: bool) -> IndexReport:
        return index_corpus(read_corpus("docs"), encoder, collection, **options)

    return index


def held(collection: Collection) -> list[str]:
    return sorted(document.id for document in collection.documents())


def long_text(passages: int) -> str:
    return "\n\n".join(f"{number} " + "word " * 390 for number in range(passages))


def test_pages_that_are_stored_are_not_drawn_again(
    docs: Path,
    collection: Collection,
    encoder: FakeEncoder,
    run: Callable[..., IndexReport],
    make_pdf: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (docs / "r.pdf").write_bytes(make_pdf(["one", "two", "three"]))
    (docs / "s.pdf").write_bytes(make_pdf(["four"]))
    assert run().indexed == 4
    page = collection.get(["r.pdf#2"])["r.pdf#2"]
    assert (page.parent_id, page.metadata["page"], page.content.text) == ("r.pdf", 2, "two")
    drawn: list[object] = []
    from mmseek.index.corpus import pdf

    draw = pdf._drawn
    monkeypatch.setattr(pdf, "_drawn", lambda page: drawn.append(page) or draw(page))
    again = run()
    assert (again.indexed, again.unchanged, again.removed, drawn) == (0, 4, 0, [])
    (docs / "s.pdf").write_bytes(make_pdf(["five"]))
    changed = run()
    assert (changed.indexed, changed.unchanged, len(drawn)) == (1, 3, 1)


def test_a_page_that_cannot_be_drawn_fails_alone(
    docs: Path, run: Callable[..., IndexReport], make_pdf: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmseek.index.corpus import pdf

    draw, seen = pdf._drawn, []

    def fails_once(page: object) -> Content:
        seen.append(page)
        if len(seen) == 2:
            raise ValueError("hostile")
        return draw(page)

    monkeypatch.setattr(pdf, "_drawn", fails_once)
    (docs / "r.pdf").write_bytes(make_pdf(["one", "two", "three"]))
    report = run()
    assert report.indexed == 2
    (failure,) = report.failed
    assert (failure.source, failure.item_id) == ("docs/r.pdf", "r.pdf#2")
    assert "page 2 cannot be drawn" in str(failure)


@pytest.mark.parametrize("shorter", [4, 2, 1])
def test_passages_that_a_text_no_longer_has_are_taken_out(
    docs: Path, collection: Collection, run: Callable[..., IndexReport], shorter: int
) -> None:
    (docs / "a.txt").write_text(long_text(40))
    (docs / "b.txt").write_text("short")
    run()
    assert len(held(collection)) == 41
    (docs / "a.txt").write_text(long_text(shorter))
    report = run()
    names = [f"a.txt#{number}" for number in range(1, shorter + 1)] if shorter > 1 else ["a.txt"]
    assert held(collection) == [*names, "b.txt"]
    assert report.removed == 40 - (shorter if shorter > 1 else 0)
    (docs / "a.txt").write_text(long_text(3))
    run()
    assert held(collection) == ["a.txt#1", "a.txt#2", "a.txt#3", "b.txt"]


def test_documents_that_only_look_like_passages_stay(
    docs: Path, collection: Collection, encoder: FakeEncoder, run: Callable[..., IndexReport]
) -> None:
    index_corpus([Document("a.txt#1", Content.of("another's"), parent_id="else")], encoder, collection)
    (docs / "a.txt").write_text("short")
    run()
    assert held(collection) == ["a.txt", "a.txt#1"]


def test_a_file_that_can_no_longer_be_read_keeps_its_pages(
    docs: Path, collection: Collection, run: Callable[..., IndexReport], make_pdf: Make
) -> None:
    (docs / "r.pdf").write_bytes(make_pdf(["one", "two"]))
    (docs / "a.txt").write_text("words")
    (docs / "gone.txt").write_text("words")
    run()
    (docs / "r.pdf").write_bytes(b"%PDF-")
    (docs / "gone.txt").unlink()
    assert run().removed == 0
    assert run(prune=True).removed == 1
    assert held(collection) == ["a.txt", "r.pdf#1", "r.pdf#2"]


def test_a_removed_file_leaves_the_collection_if_that_is_asked_for(
    docs: Path, collection: Collection, run: Callable[..., IndexReport], make_pdf: Make
) -> None:
    (docs / "r.pdf").write_bytes(make_pdf(["one", "two"]))
    (docs / "a.txt").write_text("words")
    run()
    (docs / "r.pdf").unlink()
    assert run().removed == 0
    assert run(prune=True).removed == 2
    assert held(collection) == ["a.txt"]


def test_nothing_is_pruned_where_it_is_unclear_what_was_removed(
    docs: Path, collection: Collection, run: Callable[..., IndexReport]
) -> None:
    (docs / "a.txt").write_text("words")
    run()
    (docs / "a.txt").unlink()
    empty = run(prune=True)
    assert empty.removed == 0
    assert "not mounted" in (empty.not_pruned or "")
    (docs / "b.txt").write_text("words")
    (docs / "n.jsonl").write_text("{")
    unclear = run(prune=True)
    assert (unclear.removed, held(collection)) == (0, ["a.txt", "b.txt"])
    assert "could not be read" in (unclear.not_pruned or "")


@pytest.mark.parametrize(
    "broken", [b"text,id\nnew,n\n\xff\xfe\n", b"text,id\nnew,n\n" + b"x" * 2000, b"PAR1", b"PK\3\4"]
)
def test_rows_of_a_table_that_breaks_are_not_taken_for_removed(
    docs: Path,
    collection: Collection,
    run: Callable[..., IndexReport],
    monkeypatch: pytest.MonkeyPatch,
    broken: bytes,
) -> None:
    monkeypatch.setattr("mmseek.index.corpus.tables.MAX_LINE_CHARS", 1000)
    monkeypatch.setattr("mmseek.index.corpus.tables._SAMPLE", 12)
    (docs / "a.txt").write_text("words")
    (docs / "t.csv").write_text("text,id\none,r1\ntwo,r2\n")
    run()
    (docs / "t.csv").write_bytes(broken)
    report = run(prune=True)
    assert report.removed == 0
    assert report.not_pruned is not None
    assert {"a.txt", "r1", "r2"} <= set(held(collection))
