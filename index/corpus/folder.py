"""Walking a folder: sorted, without hidden names, in spite of loops, pipes and names that are no text."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from mmseek.errors import ItemError
from mmseek.index.corpus.entries import Skipped, SourceFile
from mmseek.index.manifest import NAME as COLLECTION_MARK
from mmseek.items import MAX_ID_LENGTH

# The ledger of an indexing run by several workers, in a folder of its own beside the collection.
RUN_MARK = "ray-ledger.jsonl"


def walk(folder: Path, *, follow_symlinks: bool = False) -> Iterator[SourceFile | ItemError | Skipped]:
    """Every file below a folder, by name, a sub-folder standing where its name does.

    Names that begin with a dot are passed over in silence. Symbolic links are passed over with a notice, or followed;
    a folder that is reached twice is read once, so loops end. What is neither file nor folder is never opened.

    Memory: the names of one folder and of those above it, and the number of each folder read.
    """
    top = Path(os.path.abspath(folder))  # noqa: PTH100  (Path.absolute keeps "..", resolve follows links)
    seen: set[tuple[int, int]] = set()
    pending = [_listing(top, str(folder), "", seen)]
    while pending:
        entry = next(pending[-1], None)
        if entry is None:
            pending.pop()
        elif isinstance(entry, Skipped | ItemError):
            yield entry
        else:
            path, below = entry
            shown = str(folder / below)
            kind = _kind(path, follow_symlinks)
            if kind == "folder":
                pending.append(_listing(path, shown, below, seen))
            elif kind == "file":
                yield SourceFile(path=path, shown=shown, id=below, root=top)
            else:
                yield Skipped(shown, kind)


def _listing(path: Path, shown: str, below: str, seen: set[tuple[int, int]]) -> Iterator[tuple[Path, str] | ItemError]:
    """The names of one folder, in order: each as its path and its path below the top."""
    try:
        status = path.stat()
        names = sorted(os.listdir(path))  # noqa: PTH208  (names are enough, and sort faster than paths)
    except OSError as error:
        yield ItemError(f"the folder cannot be read: {error.strerror}", source=shown)
        return
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    for name in names:
        if name.startswith("."):
            continue
        relative = f"{below}/{name}" if below else name
        if problem := name_problem(relative):
            yield ItemError(problem, source=str(Path(shown, printable(name))))
        else:
            yield path / name, relative


def name_problem(name: str) -> str | None:
    """Why a path cannot be the id of a document, or None. The rules are those of ids in item files."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:  # the system gives raw bytes as lone surrogates
        return "its name is not UTF-8: rename it"
    if any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in name):
        return "its name holds a control character such as a newline: rename it"
    if len(name) > MAX_ID_LENGTH:
        return f"its path has more than {MAX_ID_LENGTH} characters, too long for an id: index a folder further below"
    return None


def printable(name: str) -> str:
    """A name fit for a message."""
    text = os.fsencode(name).decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _kind(path: Path, follow_symlinks: bool) -> str:
    """`folder`, `file`, or the reason to pass over."""
    if path.is_symlink() and not follow_symlinks:
        return "is a symbolic link, and these are not followed"
    if path.is_dir():
        if (path / RUN_MARK).is_file():
            return "is kept by an indexing run, not a part of a corpus"
        return "is a collection, not a part of a corpus" if (path / COLLECTION_MARK).is_file() else "folder"
    if path.is_file():
        return "file"
    return "is a broken link" if path.is_symlink() else "is neither a file nor a folder"
