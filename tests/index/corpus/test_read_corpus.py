"""Sources of every kind become documents; what is wrong with one leaves the others alone."""

from __future__ import annotations

import errno
import json
import os
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseek import Document, Image, Text
from mmseek.errors import InputError, ItemError
from mmseek.index.corpus import Ended, Entry, Located, Skipped, read_corpus
from mmseek.index.corpus.formats import KINDS

Tree = Callable[[dict[str, str | bytes]], Path]


def documents(entries: Iterable[Entry]) -> list[Located]:
    return [entry for entry in entries if isinstance(entry, Located)]


def ids(entries: Iterable[Entry]) -> list[str]:
    return [entry.id for entry in documents(entries)]


def errors(entries: Iterable[Entry]) -> list[str]:
    return [str(entry) for entry in entries if isinstance(entry, ItemError)]


def skipped(entries: Iterable[Entry]) -> list[str]:
    return [str(entry) for entry in entries if isinstance(entry, Skipped)]


def test_folder_holds_every_kind_in_a_fixed_order(tree: Tree, picture: bytes) -> None:
    folder = tree(
        {
            "b.jpg": picture,
            "a.txt": "first\r\nsecond",
            "sub/c.PNG": picture,
            "sub/guide.md": "# Guide\n\nwords",
            "z.jsonl": '{"id": "z1", "text": "one"}\n',
        }
    )

    entries = list(read_corpus(folder))

    assert ids(entries) == ["sub/guide.md", "z1", "a.txt", "b.jpg", "sub/c.PNG"]
    assert entries == list(read_corpus(folder))
    by_id = {document.id: document for document in documents(entries)}
    assert by_id["a.txt"].content.text == "first\nsecond"
    assert by_id["sub/c.PNG"].content.parts == (Image(path=Path.cwd() / "docs/sub/c.PNG"),)
    assert by_id["sub/c.PNG"].metadata == {"path": "sub/c.PNG", "title": "c"}
    assert by_id["sub/guide.md"].metadata == {"path": "sub/guide.md", "title": "Guide"}
    assert by_id["z1"].source == "docs/z.jsonl"
    assert by_id["z1"].line == 1
    assert isinstance(by_id["z1"], Document)


def test_files_given_themselves_are_named_by_their_name(tree: Tree, picture: bytes) -> None:
    folder = tree({"p.webp": picture, "t.txt": "words", "m.markdown": "words", "i.jsonl": '{"text": "x"}'})

    entries = list(read_corpus([folder / name for name in ("p.webp", "t.txt", "m.markdown", "i.jsonl")]))

    assert ids(entries) == ["p.webp", "t.txt", "m.markdown", "i.jsonl:1"]


def test_item_without_id_gets_file_and_line(tree: Tree) -> None:
    folder = tree({"sub/n.jsonl": '\n{"text": "a"}\n{"id": "own", "text": "b"}\n{"text": "c"}\n'})

    assert ids(read_corpus(folder)) == ["sub/n.jsonl:2", "own", "sub/n.jsonl:4"]
    assert ids(read_corpus(folder / "sub/n.jsonl")) == ["n.jsonl:2", "own", "n.jsonl:4"]


def test_items_keep_pictures_metadata_and_parent(tree: Tree, picture: bytes) -> None:
    item = {"id": "a", "image": "img/p.png", "text": "words", "metadata": {"lang": "en"}, "parent_id": "book"}
    folder = tree({"n.jsonl": json.dumps(item), "img/p.png": picture})

    (document,) = documents(read_corpus(folder / "n.jsonl"))

    assert document.content.parts == (Image(path=Path.cwd() / "docs/img/p.png"), Text("words"))
    assert document.metadata == {"lang": "en"}
    assert document.parent_id == "book"


def test_pictures_that_documents_refer_to_are_not_documents_again(tree: Tree, picture: bytes) -> None:
    folder = tree(
        {
            "a_first.png": picture,
            "img/in_item.png": picture,
            "img/in_note.png": picture,
            "img/alone.png": picture,
            "n.jsonl": '{"id": "item", "image": "img/in_item.png"}',
            "notes/note.md": "see ![](../img/in_note.png)",
        }
    )

    assert ids(read_corpus(folder)) == ["item", "notes/note.md", "a_first.png", "img/alone.png"]


def test_queries_of_a_dataset_are_no_documents(tree: Tree) -> None:
    folder = tree({"corpus.jsonl": '{"id": "d", "text": "x"}', "queries.jsonl": '{"id": "q", "text": "x"}'})

    entries = list(read_corpus(folder))

    assert ids(entries) == ["d"]
    assert skipped(entries) == ["docs/queries.jsonl: holds the queries to the corpus.jsonl beside it"]
    (folder / "corpus.jsonl").unlink()
    assert ids(read_corpus(folder)) == ["q"]


def test_items_of_the_query_role_are_passed_over(tree: Tree) -> None:
    folder = tree({"n.jsonl": '{"id": "q", "text": "x", "role": "query"}\n{"id": "d", "text": "x"}'})

    entries = list(read_corpus(folder))

    assert ids(entries) == ["d"]
    assert skipped(entries) == ["docs/n.jsonl:1: is a query, not a document"]


KNOWN = " ".join(sorted(KINDS))


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["docs/missing.jsonl"], "docs/missing.jsonl does not exist: give a file or a folder that does"),
        (
            ["docs/report.odt"],
            (f"docs/report.odt is a file of a format that is not read (.odt): give a folder, or a file of {KNOWN}"),
        ),
        (
            ["docs/README"],
            (f"docs/README is a file without a suffix that tells its format: give a folder, or a file of {KNOWN}"),
        ),
        (["docs/pipe.jsonl"], "docs/pipe.jsonl is neither a file nor a folder: give one of them"),
        (
            ["docs/zero\0.txt"],
            "'docs/zero\\x00.txt' cannot be read: its name holds a control character such as a newline: rename it",
        ),
        ([], "there is nothing to read: give a file or a folder"),
    ],
)
def test_unusable_source_is_refused_before_anything_is_read(tree: Tree, sources: list[str], message: str) -> None:
    folder = tree({"good.txt": "words", "report.odt": b"PK", "README": "words"})
    os.mkfifo(folder / "pipe.jsonl")
    good = [str(folder / "good.txt")] if sources else []

    with pytest.raises(InputError) as caught:
        read_corpus([*good, *sources])

    assert str(caught.value) == message


def test_source_without_permission_is_refused(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tree({"secret.txt": "words"})

    def refuse(path: Path, *_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "open", refuse)  # as the system does, which lets root in
    monkeypatch.setattr(os, "scandir", refuse)

    for source in (folder / "secret.txt", folder):
        with pytest.raises(InputError, match=r"cannot be read \(Permission denied\): give a file or a folder that can"):
            read_corpus(source)


def test_bad_lines_are_told_and_the_rest_is_read(tree: Tree) -> None:
    lines = [
        '{"id": "a", "text": "good"}',
        '{"id": "b", "text": ',
        '{"id": "c", "text": "x", "metadata": {"score": NaN}}',
        '{"id": "d", "text": "   "}',
        '{"id": "e"}',
        '["f"]',
        '{"id": "g", "text": "good", "image": "http://example.org/x.png"}',
        '{"id": "h", "text": "good"}',
    ]
    folder = tree({"n.jsonl": "\n".join(lines), "z.jsonl": '{"id": "i", "text": "good"}'})

    entries = list(read_corpus(folder))

    assert ids(entries) == ["a", "h", "i"]
    found = [entry for entry in entries if isinstance(entry, ItemError)]
    assert [error.line for error in found] == [2, 3, 4, 5, 6, 7]
    assert all(str(error).startswith(f"docs/n.jsonl:{error.line}: ") and "\n" not in str(error) for error in found)


def test_only_items_have_to_be_utf_8(tree: Tree) -> None:
    folder = tree(
        {
            "bom.txt": b"\xef\xbb\xbfwith a mark",
            "latin.md": "# Caf\xe9".encode("latin-1"),
            "latin.txt": "caf\xe9".encode("latin-1"),
            "wide.jsonl": '{"text": "x"}'.encode("utf-16"),
            "good.txt": "gr\xfcn",
        }
    )

    entries = list(read_corpus(folder))

    assert {document.id: document.content.text for document in documents(entries)} == {
        "bom.txt": "with a mark",
        "good.txt": "gr\xfcn",
        "latin.md": "Caf\xe9",
        "latin.txt": "caf\xe9",
    }
    assert errors(entries) == ["docs/wide.jsonl: is UTF-16, not UTF-8: save it as UTF-8"]


def test_empty_files_are_told(tree: Tree) -> None:
    folder = tree({"a.txt": "", "b.md": " \n", "c.jsonl": "", "d.txt": "words", "e.txt": b"\xef\xbb\xbf\n"})

    entries = list(read_corpus(folder))

    assert ids(entries) == ["d.txt"]
    assert errors(entries) == [
        f"docs/{name}: has neither text nor picture: fill it or take it out" for name in ("b.md", "a.txt", "e.txt")
    ]


def test_long_text_is_kept_whole_if_that_is_asked_for(tree: Tree) -> None:
    text = "word " * 20_000

    (document,) = documents(read_corpus(tree({"long.txt": text}), passage_chars=0))

    assert document.content.text == text


def test_text_beyond_the_limit_is_refused(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmseek.index.corpus.files.MAX_TEXT_BYTES", 2**20)
    folder = tree({"dump.txt": "x" * (2**20 + 1), "full.txt": "x" * 2**20})

    entries = list(read_corpus(folder, passage_chars=0))

    assert ids(entries) == ["full.txt"]
    assert errors(entries) == ["docs/dump.txt: is a text of more than 1 MiB: split it"]


def test_second_use_of_an_id_names_both_places(tree: Tree, picture: bytes) -> None:
    folder = tree(
        {
            "a.jsonl": '{"id": "x", "text": "first"}\n{"id": "x", "text": "second"}\n{"id": "p.png", "text": "third"}',
            "b.jsonl": '{"id": "x", "text": "fourth"}',
            "p.png": picture,
        }
    )

    entries = list(read_corpus(folder))

    assert [document.content.text for document in documents(entries)] == ["first", "third"]
    assert errors(entries) == [
        "docs/a.jsonl:2: its id 'x' was used before, by docs/a.jsonl:1: give this one another id",
        "docs/b.jsonl:1: its id 'x' was used before, by docs/a.jsonl:1: give this one another id",
        "docs/p.png: its id 'p.png' was used before, by docs/a.jsonl:3: give this one another id",
    ]


def test_source_given_twice_is_read_once(tree: Tree) -> None:
    folder = tree({"t.txt": "words"})

    assert ids(read_corpus([folder, str(folder), folder])) == ["t.txt"]


def test_one_path_may_stand_alone(tree: Tree) -> None:
    folder = tree({"t.txt": "words"})
    assert ids(read_corpus(str(folder))) == ["t.txt"]


def test_empty_folder_has_no_documents(tmp_path: Path) -> None:
    assert list(read_corpus(tmp_path)) == []


def test_urls_are_taken_when_allowed(tree: Tree) -> None:
    folder = tree(
        {"n.jsonl": '{"id": "i", "image": "https://example.org/a.png"}', "n.md": "![far](https://example.org/b.png)"}
    )

    images = [document.content.images for document in documents(read_corpus(folder, allow_urls=True))]

    assert images == [(Image(url="https://example.org/a.png"),), (Image(url="https://example.org/b.png"),)]


def test_file_that_vanishes_while_reading_is_told(tree: Tree) -> None:
    folder = tree({"a.txt": "words", "b.txt": "words"})
    entries = read_corpus([folder / "a.txt", folder / "b.txt"])
    (folder / "a.txt").unlink()

    found = list(entries)

    assert ids(found) == ["b.txt"]
    assert errors(found) == ["docs/a.txt: cannot be read: No such file or directory"]


def test_long_file_is_streamed(tmp_path: Path) -> None:
    path = tmp_path / "n.jsonl"
    with path.open("w") as file:
        for number in range(4000):
            file.write(json.dumps({"id": str(number), "text": "x" * 5000}) + "\n")

    tracemalloc.start()
    try:
        count = sum(1 for _ in read_corpus(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert count == 4000
    assert peak < path.stat().st_size / 5


@settings(max_examples=60)
@given(data=st.binary(max_size=300), suffix=st.sampled_from([".jsonl", ".md", ".txt", ".png"]))
def test_no_bytes_break_the_reader(tmp_path_factory: pytest.TempPathFactory, data: bytes, suffix: str) -> None:
    path = tmp_path_factory.mktemp("any") / f"file{suffix}"
    path.write_bytes(data)

    for entry in read_corpus(path):
        assert isinstance(entry, Located | ItemError | Ended)
        assert "\n" not in str(entry) or isinstance(entry, Located)
