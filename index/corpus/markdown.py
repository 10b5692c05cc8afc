"""Markdown -> interleaved content: its text runs and pictures in the order in which a reader meets them."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from typing import TYPE_CHECKING

from markdown_it import MarkdownIt

from mmseek._types import Content, Text
from mmseek.index.corpus.interleave import Interleaved

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it.token import Token

    from mmseek.index.corpus.pictures import Pictures

# Blocks that end a line of their own; list items and table cells are joined more tightly.
_PARAGRAPH_ENDS = frozenset({"paragraph_close", "heading_close", "fence", "code_block", "hr", "table_close"})
_LINE_ENDS = frozenset({"tr_close", "list_item_close"})
_MARKERS = re.compile(r"^(?:[ \t]*(?:>|(?:[-*+]|\d{1,9}[.)])(?=\s)))+[ \t]*", re.MULTILINE)  # of quotes and lists
_DEEPEST = 100  # quotes and lists in each other, a list as two; the parser calls itself for each


def parse_markdown(text: str, pictures: Pictures) -> tuple[Content, str | None]:
    """Content and title of a Markdown text.

    Markup becomes plain text. A picture beside the file becomes a part of its own, its alternative text the text after
    it. A remote picture is a part when URLs are allowed; otherwise, as with formats that cannot be shown (SVG), its
    alternative text stands for it. The title is that of the front matter, else the first heading of level 1. Text in
    more than fifty lists or a hundred quotes is taken with what markup it has.

    Args:
        text: the file's text.
        pictures: where the pictures that it names are.

    Raises:
        ItemError: a picture lies outside, or its path is unusable. Without source: the caller knows it.
    """
    title, body = _split_front_matter(text)
    tokens = MarkdownIt("commonmark", {"maxNesting": _DEEPEST}).enable("table").parse(body)
    if any(token.level >= _DEEPEST - 1 for token in tokens):  # what is deeper was left out: take it all as it is
        return Content((Text(_MARKERS.sub("", body).strip()),)), title
    builder = _Builder(pictures)
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


class _Builder(Interleaved):
    """Walks the tokens of a Markdown text."""

    def __init__(self, pictures: Pictures) -> None:
        super().__init__()
        self._pictures = pictures

    def blocks(self, tokens: Sequence[Token]) -> None:
        for token in tokens:
            if token.type == "inline":
                self._line(token.children or ())
            elif token.type in ("fence", "code_block"):
                self.say(token.content)
            elif token.type == "html_block":
                self._html(token.content)
                self.say("\n\n")
            self.say(_ending(token))

    def _line(self, tokens: Sequence[Token]) -> None:
        for token in tokens:
            if token.type == "image":
                self.picture(str(token.attrGet("src") or ""), token.content)
            elif token.type in ("softbreak", "hardbreak"):
                self.say("\n")
            elif token.type == "html_inline":
                self._html(token.content)
            else:
                self.say(token.content)

    def _html(self, markup: str) -> None:
        parser = _Html(self)
        parser.feed(markup)
        parser.close()

    def picture(self, target: str, alt: str) -> None:
        image = self._pictures.picture(target)
        if image is None:
            self.say(alt)
        else:
            self.show(image, alt)


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
