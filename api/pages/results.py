"""The page of results: what was asked, and a grid of what was found."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Final

import jinja2

from mmseek._types import Content, Document, Hit, Query, Text
from mmseek.api.pages.thumbnails import Thumbnail, Thumbnails

_SNIPPET: Final = 200
_ALT: Final = 120
_CAPTIONS: Final = ("caption", "alt", "title", "name", "description", "label")
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")


@dataclass(frozen=True, slots=True)
class ResultSection:
    """One query and its hits.

    Args:
        title: the heading.
        query: what was asked; its words and pictures are shown.
        hits: best first.
        took_ms: milliseconds of the search, if they are to be shown.
        note: a sentence below the heading.
        marks: by id, what stands in place of the hit's score, if anything does.
    """

    title: str
    query: Query
    hits: Sequence[Hit]
    took_ms: float | None = None
    note: str = ""
    marks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Figure:
    """A drawing of a page, and what it shows in words.

    Args:
        svg: the drawing.
        alt: a sentence, shown below it too.
    """

    svg: str
    alt: str

    @property
    def uri(self) -> str:
        """The drawing as a data: URI; as a picture, nothing in it can run."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg.encode()).decode()}"


@dataclass(frozen=True, slots=True)
class _Part:
    """A piece of content: words, or a picture (None if it cannot be shown) and the words that stand for it."""

    text: str | None = None
    picture: Thumbnail | None = None
    alt: str = ""


def render_results(query: Query, hits: Sequence[Hit], *, title: str, took_ms: float | None = None) -> str:
    """The page of one query, as HTML with everything inside: no file, script or address beside it is used.

    Args:
        query: what was asked.
        hits: best first; a picture that cannot be opened becomes a placeholder.
        title: the heading.
        took_ms: milliseconds of the search, if they are to be shown.
    """
    return render_page([ResultSection(title, query, hits, took_ms)], title=title)


def render_page(
    sections: Sequence[ResultSection], *, title: str, summary: str = "", figures: Sequence[Figure] = ()
) -> str:
    """The page of several queries; otherwise as `render_results`.

    Args:
        sections: in the order of the page.
        title: of the page.
        summary: a sentence below it.
        figures: drawings above the queries.
    """
    thumbnails = Thumbnails()
    style = _style()
    return _template().render(
        title=title,
        summary=summary,
        style=style,
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        figures=figures,
        sections=[_section(section, thumbnails) for section in sections],
    )


def _section(section: ResultSection, thumbnails: Thumbnails) -> dict[str, Any]:
    return {
        "title": section.title,
        "note": section.note,
        "instruction": section.query.instruction,
        "asked": _parts(section.query.content, "the picture of the query", thumbnails),
        "took_ms": section.took_ms,
        "marks": section.marks,
        "hits": [_hit(hit, thumbnails) for hit in section.hits],
    }


def _hit(hit: Hit, thumbnails: Thumbnails) -> dict[str, Any]:
    document = hit.document
    language = document.metadata.get("lang")
    return {
        "rank": hit.rank,
        "id": hit.id,
        "score": hit.score,
        "details": hit.scores if len(hit.scores) > 1 else {},
        "modality": {"text": "text", "image": "picture", "image,text": "picture + text"}[document.content.modality],
        "caption": "" if document.content.text.strip() else caption(document),
        "parts": _parts(document.content, _alt(document), thumbnails),
        "language": language if isinstance(language, str) and _LANGUAGE.fullmatch(language) else None,
    }


def _parts(content: Content, alt: str, thumbnails: Thumbnails) -> list[_Part]:
    return [
        _Part(text=shortened(part.text, _SNIPPET)) if isinstance(part, Text) else _Part(None, thumbnails(part), alt)
        for part in content.parts
    ]


def _alt(document: Document) -> str:
    """What stands for the pictures. Words that are on the page anyway are not said twice."""
    if words := caption(document):
        return shortened(words, _ALT)
    beside = "" if document.content.text.strip() else ", without a description"
    return f"picture of {document.id}{beside}"


def caption(document: Document) -> str:
    """The words of the metadata that describe the document, or none."""
    found = (document.metadata.get(name) for name in _CAPTIONS)
    return next((words for words in found if isinstance(words, str) and words.strip()), "")


def shortened(words: str, length: int) -> str:
    """Cut at a space near the length, with an ellipsis."""
    words = words.strip()
    if len(words) <= length:
        return words
    head, space, _ = words[:length].rpartition(" ")
    return f"{head if space and len(head) > length // 2 else words[:length]}\N{HORIZONTAL ELLIPSIS}"


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mmseek.api.pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("results.html")


@cache
def _style() -> str:
    return (files("mmseek.api.pages") / "templates" / "results.css").read_text(encoding="utf-8")
