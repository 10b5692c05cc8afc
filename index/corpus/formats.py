"""Which reader a file needs: by what its first bytes say, and by its suffix where they say nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from mmseek.errors import ItemError
from mmseek.index.corpus.archives import read_tar, read_zip
from mmseek.index.corpus.entries import Entry, ReadOptions, Skipped, SourceFile
from mmseek.index.corpus.epub import read_epub
from mmseek.index.corpus.files import read_items_file, read_markdown, read_picture, read_text
from mmseek.index.corpus.html_pages import read_html
from mmseek.index.corpus.office import read_docx, read_pptx
from mmseek.index.corpus.pdf import read_pdf
from mmseek.index.corpus.pictures import PICTURE_SUFFIXES
from mmseek.index.corpus.tables import read_csv, read_parquet
from mmseek.index.corpus.videos import read_video
from mmseek.index.corpus.zips import open_zip
from mmseek.media import recognise

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["KINDS", "REFERRING", "kind_of", "named_kind", "read_file", "unknown"]

Reader = Callable[[SourceFile, ReadOptions], Iterator[Entry]]

_READERS: Final[dict[str, Reader]] = {
    "items": read_items_file,
    "markdown": read_markdown,
    "text": read_text,
    "picture": read_picture,
    "video": read_video,
    "html": read_html,
    "pdf": read_pdf,
    "docx": read_docx,
    "pptx": read_pptx,
    "epub": read_epub,
    "csv": read_csv,
    "parquet": read_parquet,
    "zip": lambda file, options: read_zip(file, lambda member: read_file(member, options)),
    "tar": lambda file, options: read_tar(file, lambda member: read_file(member, options)),
}
# Suffix -> kind.
KINDS: Final[dict[str, str]] = {
    ".jsonl": "items",
    ".md": "markdown",
    ".markdown": "markdown",
    ".txt": "text",
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    **{f".{kind}": kind for kind in ("pdf", "docx", "pptx", "epub", "csv", "parquet", "zip", "tar")},
    ".tsv": "csv",
    **dict.fromkeys((".tgz", ".tbz2", ".txz"), "tar"),
    **dict.fromkeys(PICTURE_SUFFIXES, "picture"),
    **dict.fromkeys((".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi"), "video"),
}
# These refer to pictures beside them, which then are parts of their documents and not documents of their own.
REFERRING: Final = frozenset({"items", "markdown", "html", "csv", "parquet"})

_TEXTUAL: Final = frozenset({"markdown", "text", "html", "csv"})
_HEAD: Final = 1024
_STARTS: Final = (
    (b"PAR1", "parquet"),
    (b"PK\x03\x04", "zip"),
)
_PAGE: Final = (b"<!doctype html", b"<html")
_INSIDE: Final = {"word/document.xml": "docx", "ppt/presentation.xml": "pptx", "META-INF/container.xml": "epub"}


def kind_of(file: SourceFile) -> str | None:
    """What a file is, a key of the readers; None if no reader takes it.

    Items, pictures and videos go by their suffix alone: those are read line by line, these recognised when decoded.
    """
    named = named_kind(file.path)
    if named in ("items", "picture", "video"):
        return named
    head = file.head(_HEAD)
    found = _by_start(head, file)
    if found is not None:
        return found
    if named is not None and named not in _TEXTUAL and head.lstrip()[:14].lower().startswith(_PAGE):
        return "html"
    return named


def named_kind(path: Path) -> str | None:
    """The kind that a file's name announces."""
    if path.name.lower().endswith((".tar.gz", ".tar.bz2", ".tar.xz")):
        return "tar"
    return KINDS.get(path.suffix.lower())


def _by_start(head: bytes, file: SourceFile) -> str | None:
    if b"%PDF-" in head:  # the standard lets other bytes stand before it
        return "pdf" if head.startswith(b"%PDF-") or named_kind(file.path) not in _TEXTUAL else None
    if head[257:262] == b"ustar":
        return "tar"
    found = next((kind for start, kind in _STARTS if head.startswith(start)), None)
    if found == "zip":
        return _zip_kind(file)
    if found is not None:
        return found
    kind = recognise(head)
    # Two letters are too few to call a text a BMP.
    return "picture" if kind is not None and (kind != "BMP" or b"\0" in head) else None


def _zip_kind(file: SourceFile) -> str:
    """Whether a ZIP file is a DOCX, PPTX or EPUB; its name decides where it cannot be opened, and its reader tells."""
    named = named_kind(file.path) or "zip"
    try:
        with open_zip(file, "ZIP archive") as archive:
            found = next((kind for name, kind in _INSIDE.items() if name in archive.NameToInfo), "zip")
    except ItemError:
        found = named if named in _INSIDE.values() else "zip"
    return found


def read_file(file: SourceFile, options: ReadOptions) -> Iterator[Entry]:
    """The documents of one file."""
    kind = kind_of(file)
    if kind is None:
        yield Skipped(file.shown, unknown(file.path))
    elif kind in ("zip", "tar") and file.data is not None and file.base is None:
        yield Skipped(file.shown, "is an archive inside an archive: unpack it")
    else:
        yield from _READERS[kind](file, options)


def unknown(path: Path) -> str:
    """The clause for a file that no reader takes."""
    kind = f"of a format that is not read ({path.suffix})" if path.suffix else "without a suffix that tells its format"
    return f"is a file {kind}"
