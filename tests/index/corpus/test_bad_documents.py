"""Whatever stands in a folder: it is told in one sentence, and the rest is read."""

from __future__ import annotations

import io
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseek.errors import InputError, ItemError
from mmseek.index.corpus import Deferred, Entry, Located, Skipped, read_corpus

Tree = Callable[[dict[str, str | bytes]], Path]


def ids(entries: Iterable[Entry]) -> list[str]:
    return [entry.id for entry in entries if isinstance(entry, Located | Deferred)]


def sentences(entries: Iterable[Entry]) -> list[str]:
    found = [str(entry) for entry in entries if isinstance(entry, ItemError | Skipped)]
    assert all("\n" not in sentence and len(sentence) < 300 for sentence in found)
    return found


def one(folder: Path) -> str:
    """The one sentence; the file beside it, `good.txt`, is read."""
    entries = list(read_corpus(folder))
    assert "good.txt" in ids(entries)
    (sentence,) = sentences(entries)
    return sentence


def bomb(name: str = "word/document.xml") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, bytes(80 * 2**20))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("b.docx", "unfolds to more than 200 times its size"), ("b.zip", "as only a bomb does: leave it out")],
)
def test_a_zip_bomb_is_not_unfolded(tree: Tree, name: str, sentence: str) -> None:
    assert sentence in one(tree({name: bomb(), "good.txt": "words"}))


def test_a_member_of_an_archive_has_a_limit(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmseek.index.corpus.zips.MAX_MEMBER_BYTES", 1000)
    monkeypatch.setattr("mmseek.index.corpus.archives.MAX_MEMBER_BYTES", 1000)
    packed, rolled = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive, tarfile.open(fileobj=rolled, mode="w") as roll:
        for name, size in (("big.txt", 1001), ("fits.txt", 1000)):
            archive.writestr(name, "x" * size)
            info = tarfile.TarInfo(name)
            info.size = size
            roll.addfile(info, io.BytesIO(b"x" * size))

    entries = list(read_corpus(tree({"a.zip": packed.getvalue(), "b.tar": rolled.getvalue()})))

    assert ids(entries) == ["a.zip/fits.txt", "b.tar/fits.txt"]
    assert [sentence.partition(" ")[0] for sentence in sentences(entries)] == [
        "docs/a.zip/big.txt:",
        "docs/b.tar/big.txt:",
    ]


def test_a_tar_that_unfolds_too_far_is_left(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmseek.index.corpus.zips._FREE_BYTES", 10_000)
    rolled = io.BytesIO()
    with tarfile.open(fileobj=rolled, mode="w:gz") as roll:
        for number in range(3):
            info = tarfile.TarInfo(f"{number}.txt")
            info.size = 2**20
            roll.addfile(info, io.BytesIO(b"x" * 2**20))

    assert "as only a bomb does" in one(tree({"b.tgz": rolled.getvalue(), "good.txt": "words"}))


EVIL = ["../up.txt", "a/../../up.txt", "/etc/up.txt", "C:\\up.txt", "..\\up.txt"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_members_that_would_lead_outside(tree: Tree, kind: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            for name in [*EVIL, "in.txt"]:
                archive.writestr(name, "words")
    else:
        with tarfile.open(fileobj=buffer, mode="w") as roll:
            for name in [*EVIL, "in.txt"]:
                info = tarfile.TarInfo(name)
                info.size = 5
                roll.addfile(info, io.BytesIO(b"words"))
            for target, how in (("/etc/passwd", tarfile.SYMTYPE), ("in.txt", tarfile.LNKTYPE), ("", tarfile.CHRTYPE)):
                link = tarfile.TarInfo(f"link{len(target)}.txt")
                link.linkname, link.type = target, how
                roll.addfile(link)
    before = set(tmp_path.rglob("*"))

    entries = list(read_corpus(tree({f"a.{kind}": buffer.getvalue()})))

    assert ids(entries) == [f"a.{kind}/in.txt"]
    told = sentences(entries)
    assert sum("absolute path" in sentence or "leads outside" in sentence for sentence in told) == len(EVIL)
    assert sum("link or a device" in sentence for sentence in told) == (3 if kind == "tar" else 0)
    assert set(tmp_path.rglob("*")) - before == {tmp_path / "docs", tmp_path / "docs" / f"a.{kind}"}


def test_an_encrypted_pdf(tree: Tree, make_pdf: Callable[..., bytes]) -> None:
    sentence = one(tree({"a.pdf": make_pdf(["secret"], encrypted=True), "good.txt": "words"}))

    assert sentence == "docs/a.pdf: is a PDF with a password: save it without one"


@pytest.mark.parametrize("data", [b"%PDF-1.4\nnothing of the kind", b"", b"words", b"%PDF-"])
def test_a_corrupt_pdf(tree: Tree, data: bytes) -> None:
    assert one(tree({"a.pdf": data, "good.txt": "words"})) == (
        "docs/a.pdf: is a damaged PDF: save it anew or leave it out"
    )


def test_a_cut_pdf_gives_what_it_has(tree: Tree, make_pdf: Callable[..., bytes]) -> None:
    whole = make_pdf(["one", "two"])
    for cut in range(0, len(whole), 37):
        entries = list(read_corpus(tree({"a.pdf": whole[:cut], "good.txt": "words"})))
        assert "good.txt" in ids(entries)
        for entry in entries:
            if isinstance(entry, Deferred):
                try:
                    entry.load()
                except ItemError as error:
                    assert "cannot be drawn" in str(error)  # noqa: PT017


@pytest.mark.parametrize("suffix", ["docx", "pptx", "epub", "parquet", "zip", "tar", "tgz"])
@pytest.mark.parametrize("data", [b"", b"words", b"PK\x03\x04 and no more", b"PAR1", b"\x1f\x8b\x08"])
def test_files_that_are_not_what_they_are_called(tree: Tree, suffix: str, data: bytes) -> None:
    sentence = one(tree({f"a.{suffix}": data, "good.txt": "words"}))

    assert sentence.startswith(f"docs/a.{suffix}: ")


def test_files_are_taken_for_what_they_are(tree: Tree, picture: bytes, make_pdf: Callable[..., bytes]) -> None:
    folder = tree(
        {
            "a.txt": make_pdf(["one"]),
            "b.docx": "<!DOCTYPE html><p>a page</p>",
            "c.pdf": picture,
            "d": make_pdf(["two"]),
            "e.txt": "<html> as a text stays a text; so does %PDF-",
        }
    )

    entries = list(read_corpus(folder))

    assert sorted(ids(entries)) == ["a.txt#1", "b.docx", "c.pdf", "d#1", "e.txt"]
    assert sentences(entries) == []


def test_html_with_ten_thousand_nested_tags(tree: Tree) -> None:
    body = "<div><b>" * 10_000 + "the middle" + "</b></div>" * 10_000
    began = time.perf_counter()

    (page,) = (entry for entry in read_corpus(tree({"deep.html": body})) if isinstance(entry, Located))

    assert page.content.text == "the middle"
    assert time.perf_counter() - began < 60  # a reader that is quadratic in depth takes minutes


def sparse(path: Path, size: int) -> None:
    with path.open("wb") as stream:
        stream.write(b"text,image\n" if path.suffix == ".csv" else b"x")
        stream.seek(size - 1)
        stream.write(b"x")


def test_a_gigabyte_in_a_single_line(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmseek.index.corpus.files.MAX_TEXT_BYTES", 2**20)
    monkeypatch.setattr("mmseek.index.corpus.html_pages.MAX_TEXT_BYTES", 2**20)
    monkeypatch.setattr("mmseek.index.corpus.tables.MAX_LINE_CHARS", 2**20)
    folder = tree({"good.txt": "words"})
    for name in ("a.txt", "a.md", "a.html"):
        sparse(folder / name, 2**30)
    (folder / "a.csv").write_text("text\nshort\n" + "x" * (2**20 + 1) + "\nlost")

    entries = list(read_corpus(folder))

    assert ids(entries) == ["a.csv:2", "good.txt"]
    assert sentences(entries) == [
        "docs/a.csv:3: is longer than 1048576 characters; the table is read up to here: split it",
        "docs/a.html: is a text of more than 1 MiB: split it",
        "docs/a.md: is a text of more than 1 MiB: split it",
        "docs/a.txt: is a text of more than 1 MiB: split it",
    ]


def test_a_loop_of_links_ends(tree: Tree, picture: bytes) -> None:
    folder = tree({"a/good.txt": "words", "a/p.png": picture})
    (folder / "a" / "up").symlink_to(folder.absolute())
    (folder / "self").symlink_to("self")

    assert ids(read_corpus(folder)) == ["a/good.txt", "a/p.png"]
    assert sorted(ids(read_corpus(folder, follow_symlinks=True))) == ["a/good.txt", "a/p.png"]


def test_a_folder_of_mixed_encodings(tree: Tree) -> None:
    words = "Über den Fluss führt eine Brücke, und am Ufer stehen Bäume."
    folder = tree({f"{name}.txt": words.encode(name) for name in ("utf-8", "utf-16", "latin-1", "cp1252")})
    (folder / "noise.txt").write_bytes(bytes(range(256)) * 8)

    entries = list(read_corpus(folder))

    assert {entry.content.text for entry in entries if isinstance(entry, Located)} == {words}
    assert sentences(entries) == ["docs/noise.txt: is no text in any known encoding: save it as UTF-8"]


@settings(max_examples=150)
@given(
    st.sampled_from([b"", b"PK\x03\x04", b"%PDF-1.4\n", b"PAR1", b"<html>", b"text,image\n", b"\x1f\x8b"]),
    st.binary(max_size=200),
    st.sampled_from(["html", "pdf", "docx", "pptx", "epub", "csv", "tsv", "parquet", "zip", "tar", "tgz", "md"]),
)
def test_no_bytes_break_a_reader(
    tmp_path_factory: pytest.TempPathFactory, start: bytes, rest: bytes, suffix: str
) -> None:
    path = tmp_path_factory.mktemp("any") / f"file.{suffix}"
    path.write_bytes(start + rest)

    for entry in read_corpus(path):
        if isinstance(entry, Deferred):
            try:
                entry.load()
            except InputError as error:
                assert "\n" not in str(error)  # noqa: PT017
