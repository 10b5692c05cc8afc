"""Markdown -> interleaved content: its text runs and pictures in the order in which a reader meets them."""

from __future__ import annotations

import os
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt

from mmseek._types import Content, Image, Part, Text
from mmseek.errors import ItemError
from mmseek.index.corpus.entries import ReadOptions
from mmseek.items import parse_item

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it.token import Token

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})

# Blocks that end a line of their own; list items and table cells are joined more tightly.
_PARAGRAPH_ENDS = frozenset({"paragraph_close", "heading_close", "fence", "code_block", "hr", "table_close"})
_LINE_ENDS = frozenset({"tr_close", "list_item_close"})


def parse_markdown(text: str, *, folder: Path, root: Path, options: ReadOptions) -> tuple[Content, str | None]:
    """Content and title of a Markdown text.

    Markup becomes plain text. A picture beside the file becomes a part of its own, its alternative text the text after
    it. A remote picture is a part when URLs are allowed; otherwise, as with formats that cannot be shown (SVG), its
    alternative text stands for it. The title is that of the front matter, else the first heading of level 1.

    Args:
        text: the file's text.
        folder: the folder of the file, which links start from.
        root: the folder that pictures must lie in; unless symbolic links are followed, their targets too.
        options: whether pictures of the web are taken and symbolic links followed.

    Raises:
        ItemError: a picture lies outside of `root`, or its path is unusable. Without source: the caller knows it.
    """
    title, body = _split_front_matter(text)
    tokens = MarkdownIt("commonmark").enable("table").parse(body)
    builder = _Builder(folder, root, options)
    builder.blocks(tokens)
    return builder.content(), title or _first_heading(tokens)


def _split_front_matter(text: str) -> tuple[str | None, str]:
    """The title named between `---` lines at the very top, and the text below them."""
    found = re.match(r"---[ \t]*\r?\n(.*?)^(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)", text, re.DOTALL | re.MULTILINE)
    if found is None:
        return None, text
    title = re.search(r"^title:[ \t]*(.+?)[ \t]*\r?$", found[1], re.MULTILINE)
    return (title[1].strip("'\"") or None) if title else None, text[found.end() :]


def _first_heading(tokens: Sequence[Token]) -> str | None:
    for token, inside in pairwise(tokens):
        if token.type == "heading_open" and token.tag == "h1":
            words = "".join(child.content for child in inside.children or () if child.type in ("text", "code_inline"))
            return words.strip() or None
    return None


class _Builder:
    """Collects parts: text until a picture comes, then the picture."""

    def __init__(self, folder: Path, root: Path, options: ReadOptions) -> None:
        self._folder = folder
        self._root = root
        self._allow_urls = options.allow_urls
        self._follow_symlinks = options.follow_symlinks
        self._limits = options.limits
        self._parts: list[Part] = []
        self._words: list[str] = []

    def blocks(self, tokens: Sequence[Token]) -> None:
        for token in tokens:
            if token.type == "inline":
                self._line(token.children or ())
            elif token.type in ("fence", "code_block"):
                self._words.append(token.content)
            elif token.type == "html_block":
                self._html(token.content)
                self._words.append("\n\n")
            self._words.append(_ending(token))

    def _line(self, tokens: Sequence[Token]) -> None:
        for token in tokens:
            if token.type == "image":
                self.picture(str(token.attrGet("src") or ""), token.content)
            elif token.type in ("softbreak", "hardbreak"):
                self._words.append("\n")
            elif token.type == "html_inline":
                self._html(token.content)
            else:
                self._words.append(token.content)

    def _html(self, markup: str) -> None:
        parser = _Html(self)
        parser.feed(markup)
        parser.close()

    def say(self, words: str) -> None:
        self._words.append(words)

    def picture(self, target: str, alt: str) -> None:
        image = self._image(target)
        if image is None:
            self._words.append(alt)
            return
        self._end_text()
        self._parts.append(image)
        file = image.path
        if file is None or alt not in (file.name, file.stem):
            self._words += [alt, "\n\n"]

    def _image(self, target: str) -> Image | None:
        """The picture that a link leads to; None where the alternative text has to stand for it."""
        try:
            link = urlsplit(target)
        except ValueError:
            return None
        if link.scheme in ("http", "https"):
            return Image(url=target) if self._allow_urls else None
        if link.scheme == "data":
            return self._inline(target)
        if link.scheme or link.netloc or Path(link.path).suffix.lower() not in PICTURE_SUFFIXES:
            return None
        return Image(path=self._inside(unquote(link.path)))

    def _inline(self, target: str) -> Image | None:
        try:
            (part,) = parse_item({"image": target}, base=None, limits=self._limits).content.parts
        except ItemError:
            return None
        return part if isinstance(part, Image) else None

    def _inside(self, target: str) -> Path:
        resolve = os.path.normpath if self._follow_symlinks else os.path.realpath
        root = resolve(self._root)
        try:
            path = Path(resolve(self._folder / target))
        except (OSError, ValueError) as error:
            raise ItemError(f"its picture {target!r} has an unusable path: name a file beside it") from error
        if "\0" in target:
            raise ItemError(f"its picture {target!r} has an unusable path: name a file beside it")
        if not path.is_relative_to(root):
            raise ItemError(f"its picture {target} lies outside of {root}: move it inside, or index a folder above")
        return path

    def _end_text(self) -> None:
        text = re.sub(r"[ \t]+$", "", "".join(self._words), flags=re.MULTILINE)
        text = re.sub(r"\n{3,}", "\n\n", text).strip()
        if text:
            self._parts.append(Text(text))
        self._words = []

    def content(self) -> Content:
        self._end_text()
        return Content(tuple(self._parts))


def _ending(token: Token) -> str:
    if token.type in _PARAGRAPH_ENDS:
        return "\n" if token.hidden else "\n\n"  # paragraphs of a tight list are hidden
    if token.type in ("th_close", "td_close"):
        return "\t"
    return "\n" if token.type in _LINE_ENDS else ""


class _Html(HTMLParser):
    """Raw HTML in Markdown: its text, and its `<img>` as pictures. Scripts and styles are no text."""

    def __init__(self, builder: _Builder) -> None:
        super().__init__()
        self._builder = builder
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            values = dict(attrs)
            self._builder.picture(values.get("src") or "", values.get("alt") or "")
        elif tag == "br":
            self._builder.say("\n")
        elif tag in ("script", "style"):
            self._silent += 1

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style") and self._silent:
            self._silent -= 1

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self._builder.say(data)
