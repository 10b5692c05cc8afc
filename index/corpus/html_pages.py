"""HTML -> text and pictures in their true order, from a stream of tags: no tree, so no depth is too deep."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Final

from mmseek.errors import ItemError
from mmseek.index.corpus.entries import Skipped
from mmseek.index.corpus.files import MAX_TEXT_BYTES, text_of
from mmseek.index.corpus.interleave import Interleaved
from mmseek.index.corpus.passages import documents_of
from mmseek.index.corpus.pictures import pictures_of, without_unusable

if TYPE_CHECKING:
    from mmseek.index.corpus.entries import Entry, ReadOptions, SourceFile
    from mmseek.index.corpus.pictures import Pictures

__all__ = ["HtmlContent", "read_html"]

_SILENT: Final = frozenset({"script", "style", "template", "noscript", "svg", "math"})
_PARAGRAPHS: Final = frozenset(
    {"p", "div", "section", "article", "header", "footer", "main", "aside", "nav", "figure", "figcaption", "blockquote"}
    | {"pre", "table", "ul", "ol", "dl", "form", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "body", "address", "details"}
)
_LINES: Final = frozenset({"br", "li", "tr", "dt", "dd", "caption", "summary", "option"})
_CHARSET: Final = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([A-Za-z0-9_.:-]+)""", re.IGNORECASE)
_BLANKS: Final = re.compile(r"[ \t\r\n\f]+")
_HEAD_BYTES: Final = 4096


class HtmlContent(HTMLParser):
    """Collects the content of one page.

    A picture whose address is not used (remote, of another format, missing) is told by its alternative text; one that
    would lead outside is left out, and why is kept in `refused`.
    """

    def __init__(self, pictures: Pictures, into: Interleaved | None = None) -> None:
        super().__init__(convert_charrefs=True)
        self.parts = into or Interleaved()
        self.title = ""
        self.refused: list[str] = []
        self._pictures = pictures
        self._silent: str | None = None  # the tag that silenced us, and how deep we are in more of its kind
        self._depth = 0
        self._in_title = False
        self._preserved = 0
        self._fresh = True  # a line was just begun, so blanks before its first word say nothing

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._silent is not None:
            self._depth += tag == self._silent
        elif tag in _SILENT:
            self._silent, self._depth = tag, 1
        elif tag == "title":
            self._in_title = True
        elif tag in ("img", "image"):
            values = dict(attrs)
            self._picture(values.get("src") or values.get("xlink:href") or "", values.get("alt") or "")
        else:
            self._preserved += tag == "pre"
            self._break(tag, "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._silent is not None:
            self._depth -= tag == self._silent
            if self._depth <= 0:
                self._silent = None
        elif tag == "title":
            self._in_title = False
        else:
            self._preserved = max(self._preserved - (tag == "pre"), 0)
            self._break(tag, "\t" if tag in ("td", "th") else "")

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title += data
        elif self._silent is None:
            words = data if self._preserved else _BLANKS.sub(" ", data)
            self.parts.say(words.lstrip(" ") if self._fresh and not self._preserved else words)
            self._fresh = self._fresh and words.isspace()

    def _break(self, tag: str, otherwise: str) -> None:
        end = "\n\n" if tag in _PARAGRAPHS else "\n" if tag in _LINES else otherwise
        self.parts.say(end)
        self._fresh = self._fresh or bool(end)

    def _picture(self, target: str, alt: str) -> None:
        try:
            image = self._pictures.picture(target)
        except ItemError as error:
            self.refused.append(error.reason)
            image = None
        if image is None or (image.path is not None and not image.path.is_file()):
            self.parts.say(alt)
        else:
            self.parts.show(image, alt)


def read_html(file: SourceFile, options: ReadOptions) -> Iterator[Entry]:
    """One page: its text and the pictures beside it. What it would fetch from elsewhere is never fetched."""
    page = HtmlContent(pictures_of(file, options))
    try:
        text, told = text_of(file, declared_charset(file.read(MAX_TEXT_BYTES, "text")))
    except ItemError as error:
        yield error
        return
    page.feed(text)
    page.close()
    content, left_out = without_unusable(page.parts.content())
    reasons = (*page.refused, *left_out)
    yield from (Skipped(file.shown, f"{reason}; the page is indexed without it") for reason in reasons)
    title = " ".join(page.title.split()) or file.path.stem
    yield from documents_of(file, content, options, title=title, metadata=told)


def declared_charset(data: bytes) -> str | None:
    """The encoding that a page says it is in, if it does."""
    found = _CHARSET.search(data[:_HEAD_BYTES])
    return None if found is None else found[1].decode("ascii")
