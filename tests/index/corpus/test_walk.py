"""Walking: order, hidden names, links and loops, names that are no ids, things that are no files."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mmseek.errors import InputError, ItemError
from mmseek.index.corpus import Skipped, read_corpus
from mmseek.index.corpus.entries import SourceFile
from mmseek.index.corpus.folder import walk

Tree = Callable[[dict[str, str | bytes]], Path]


def names(folder: Path, *, follow_symlinks: bool = False) -> list[str]:
    """Ids of files, and messages of the rest."""
    found = walk(folder, follow_symlinks=follow_symlinks)
    return [entry.id if isinstance(entry, SourceFile) else str(entry) for entry in found]


def test_order_is_that_of_names_whatever_the_order_of_creation(tree: Tree) -> None:
    folder = tree({"b/2": "", "b/10": "", "c": "", "a": "", "B": ""})

    assert names(folder) == ["B", "a", "b/10", "b/2", "c"]


def test_hidden_names_are_passed_over(tree: Tree) -> None:
    assert names(tree({".git/config": "", ".DS_Store": "", "a/.b/c": "", "a/d": ""})) == ["a/d"]


def test_links_are_told_or_followed(tree: Tree) -> None:
    folder = tree({"real/a": "", "zfile": ""})
    (folder / "link").symlink_to("real")
    (folder / "zlink").symlink_to("zfile")
    (folder / "broken").symlink_to("nothing")

    reason = "is a symbolic link, and these are not followed"
    assert names(folder) == [
        f"docs/broken: {reason}",
        f"docs/link: {reason}",
        "real/a",
        "zfile",
        f"docs/zlink: {reason}",
    ]
    assert names(folder, follow_symlinks=True) == ["docs/broken: is a broken link", "link/a", "zfile", "zlink"]


@pytest.mark.parametrize("follow", [False, True])
def test_loops_of_links_end(tree: Tree, follow: bool) -> None:
    folder = tree({"a/b/c": ""})
    (folder / "a/b/up").symlink_to("../..")
    (folder / "a/self").symlink_to("self")

    assert [name for name in names(folder, follow_symlinks=follow) if name.endswith("c")] == ["a/b/c"]


def test_source_that_is_a_link_is_followed(tree: Tree) -> None:
    folder = tree({"real/a": ""})
    Path("link").symlink_to(folder / "real")

    assert names(Path("link")) == ["a"]


def test_what_is_no_file_is_never_opened(tree: Tree) -> None:
    folder = tree({"a.txt": "words"})
    os.mkfifo(folder / "pipe.txt")

    assert names(folder) == ["a.txt", "docs/pipe.txt: is neither a file nor a folder"]


def test_names_that_cannot_be_ids_are_told(tree: Tree) -> None:
    folder = tree({"good": "", "new\nline": ""})
    Path(os.fsdecode(b"docs/raw\xff.txt")).write_bytes(b"")

    assert names(folder) == [
        "good",
        "docs/new\N{REPLACEMENT CHARACTER}line: its name holds a control character such as a newline: rename it",
        "docs/raw\N{REPLACEMENT CHARACTER}.txt: its name is not UTF-8: rename it",
    ]
    with pytest.raises(InputError, match="its name is not UTF-8"):
        read_corpus(Path(os.fsdecode(b"docs/raw\xff.txt")))


def test_path_too_long_for_an_id_is_told(tree: Tree) -> None:
    folder = tree({f"{'d' * 200}/{'e' * 200}/{'f' * 200}.txt": "words", "good.txt": "words"})

    (error,) = [entry for entry in read_corpus(folder) if isinstance(entry, ItemError)]

    assert "its path has more than 512 characters" in str(error)


def test_depth_is_no_problem(tree: Tree) -> None:
    folder = tree({})
    folder.mkdir()
    start = Path.cwd()
    try:
        os.chdir(folder)
        for _ in range(200):
            Path("d").mkdir()
            os.chdir("d")
        Path("a.txt").write_text("words")
    finally:
        os.chdir(start)

    assert names(folder) == ["d/" * 200 + "a.txt"]


def test_folder_without_permission_is_told(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tree({"a": "", "closed/b": "", "d": ""})
    listdir = os.listdir

    def refuse(path: Path) -> list[str]:
        if Path(path).name == "closed":  # as the system does, which lets root in
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)

    assert names(folder) == ["a", "docs/closed: the folder cannot be read: Permission denied", "d"]


def test_unknown_formats_are_told_once(tree: Tree) -> None:
    folder = tree({"a.odt": "", "Makefile": "", "b.txt": "words"})

    entries = [str(entry) for entry in read_corpus(folder) if isinstance(entry, Skipped)]

    assert entries == [
        "docs/Makefile: is a file without a suffix that tells its format",
        "docs/a.odt: is a file of a format that is not read (.odt)",
    ]


def test_what_indexing_leaves_in_the_folder_is_no_corpus(tree: Tree, picture: bytes) -> None:
    folder = tree(
        {"my.index/mmseek.json": "{}", "my.index/assets/a.png": picture, "my.index.failures.jsonl": "{}", "a.txt": "x"}
    )

    assert [str(entry) for entry in read_corpus(folder) if isinstance(entry, Skipped)] == [
        "docs/my.index: is a collection, not a part of a corpus",
        "docs/my.index.failures.jsonl: is a report of an indexing run, not a part of a corpus",
    ]
    assert not [entry for entry in read_corpus(folder) if isinstance(entry, ItemError)]
    with pytest.raises(InputError, match=r"docs/my\.index is a collection, not a corpus"):
        read_corpus(folder / "my.index")
