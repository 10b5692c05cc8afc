"""EPUB -> the text and pictures of its chapters in reading order. It is a ZIP of XHTML, read as one."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import TYPE_CHECKING
from urllib.parse import unquote

from mmseek._types import Image
from mmseek.errors import ItemError
from mmseek.index.corpus.decoding import decode
from mmseek.index.corpus.entries import Skipped
from mmseek.index.corpus.html_pages import HtmlContent, declared_charset
from mmseek.index.corpus.interleave import Interleaved
from mmseek.index.corpus.passages import documents_of
from mmseek.index.corpus.pictures import MemberPictures
from mmseek.index.corpus.zips import open_zip, read_member
from mmseek.media import recognise

if TYPE_CHECKING:
    import zipfile

    from mmseek.index.corpus.entries import Entry, ReadOptions, SourceFile

__all__ = ["read_epub"]


class _Tags(HTMLParser):
    """The tags of a small XML file with their attributes, and the book's title. Entities are never expanded."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.title = ""
        self._in_title = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        name = tag.rpartition(":")[2]
        self.tags.append((name, {key: value or "" for key, value in attrs}))
        self._in_title = name == "title" and not self.title

    def handle_endtag(self, _tag: str) -> None:
        self._in_title = False

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data

    def all(self, name: str) -> list[dict[str, str]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def read_epub(file: SourceFile, options: ReadOptions) -> Iterator[Entry]:
    """The book as passages; a chapter that cannot be read is told and left out."""
    notices: list[str] = []
    parts = Interleaved()
    try:
        with open_zip(file, "EPUB") as book:
            package, title, chapters = _spine(book)
            folder = posixpath.dirname(package)
            for chapter in chapters:
                notices += _chapter(book, _join(folder, chapter), parts, options)
    except ItemError as error:
        yield file.error(error.reason)
        return
    yield from (Skipped(file.shown, f"{notice}; the book is indexed without it") for notice in notices)
    yield from documents_of(file, parts.content(), options, title=title or file.path.stem)


def _spine(book: zipfile.ZipFile) -> tuple[str, str, list[str]]:
    """The path of the package file, the book's title, and its chapters as the package names them, in order."""
    roots = _Tags(_text(book, "META-INF/container.xml")).all("rootfile")
    if not roots or not roots[0].get("full-path"):
        raise ItemError("is an EPUB that does not say where its contents are: save it anew")
    package = roots[0]["full-path"]
    tags = _Tags(_text(book, package))
    files = {item.get("id", ""): item.get("href", "") for item in tags.all("item")}
    chapters = [files[each["idref"]] for each in tags.all("itemref") if files.get(each.get("idref", ""))]
    return package, " ".join(tags.title.split()), chapters


def _chapter(book: zipfile.ZipFile, name: str, parts: Interleaved, options: ReadOptions) -> list[str]:
    """Add a chapter to the parts; returns what was left out of it."""
    try:
        text = _text(book, name)
    except ItemError as error:
        return [f"its chapter {name!r} {error.reason}"]
    page = HtmlContent(MemberPictures(posixpath.dirname(name), lambda path: _picture(book, path), options), parts)
    page.feed(text)
    page.close()
    parts.say("\n\n")
    return page.refused


def _picture(book: zipfile.ZipFile, name: str) -> Image | None:
    try:
        data = read_member(book, name)
    except ItemError:
        return None
    return Image(data=data) if recognise(data) else None


def _text(book: zipfile.ZipFile, name: str) -> str:
    data = read_member(book, name)
    found = decode(data, declared_charset(data))
    if found is None:
        raise ItemError("is encrypted or no text")
    return found[0]


def _join(folder: str, href: str) -> str:
    return posixpath.normpath(posixpath.join(folder, unquote(href.partition("#")[0])))
