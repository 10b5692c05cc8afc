"""A long document -> its passages, each a document whose parent is the whole."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from mmseek._types import Content, Part, Text
from mmseek.index.corpus.entries import Ended, Entry, Located

if TYPE_CHECKING:
    from mmseek.index.corpus.entries import ReadOptions, SourceFile

__all__ = ["documents_of", "split"]

# Where a text is cut if it has to be: between paragraphs, lines, sentences, words; the best of these that is there.
_CUTS: Final = (re.compile(r"\n\n+"), re.compile(r"\n"), re.compile(r"(?<=[.!?。！？])\s*(?=\S)"), re.compile(r"\s+"))
_MOST_PICTURES: Final = 4


def documents_of(
    file: SourceFile,
    content: Content,
    options: ReadOptions,
    *,
    title: str,
    metadata: Mapping[str, Any] | None = None,
) -> Iterator[Entry]:
    """A file as one document, or as passages if its text is long or its pictures are many. Empty content is an error.

    Passage n has the id `FILE#n`, the file as its parent, and metadata `passage` (n), `passages` (how many) and `start`
    (characters of text before it).
    """
    about = {"path": file.id, "title": title, **(metadata or {})}
    if content.is_empty:
        yield file.error("has neither text nor picture: fill it or take it out")
        return
    if not options.passage_chars or (
        len(content.text) <= options.passage_chars and len(content.images) <= _MOST_PICTURES
    ):
        yield Located(id=file.id, content=content, metadata=about, source=file.shown, paged=True)
        yield Ended(file.id, 0)
        return
    pieces = split(content, options.passage_chars)
    for number, (piece, start) in enumerate(pieces, start=1):
        yield Located(
            id=f"{file.id}#{number}",
            content=piece,
            metadata={**about, "passage": number, "passages": len(pieces), "start": start},
            parent_id=file.id,
            source=file.shown,
            paged=True,
        )
    yield Ended(file.id, len(pieces))


def split(content: Content, limit: int) -> list[tuple[Content, int]]:
    """Passages of at most `limit` characters and four pictures, in order, each with the characters of text before it.

    Nothing but white space at the cuts is left out, and pictures stay where they are between the texts.
    """
    found: list[tuple[Content, int]] = []
    parts: list[Part] = []
    start = size = pictures = before = 0
    for part, offset in _pieces(content, limit):
        length = len(part.text) if isinstance(part, Text) else 0
        full = size + length > limit or (not isinstance(part, Text) and pictures >= _MOST_PICTURES)
        if parts and full:
            found.append((Content(_joined(parts)), start))
            parts, size, pictures = [], 0, 0
        if not parts:
            start = offset if isinstance(part, Text) else before
        parts.append(part)
        size += length
        pictures += not isinstance(part, Text)
        before = offset + length
    if parts:
        found.append((Content(_joined(parts)), start))
    return found


def _joined(parts: list[Part]) -> tuple[Part, ...]:
    """Texts that follow each other are one text."""
    found: list[Part] = []
    for part in parts:
        last = found[-1] if found else None
        if isinstance(part, Text) and isinstance(last, Text):
            found[-1] = Text(last.text + part.text)
        else:
            found.append(part)
    return tuple(Text(part.text.strip()) if isinstance(part, Text) else part for part in found)


def _pieces(content: Content, limit: int) -> Iterator[tuple[Part, int]]:
    """Pictures as they are, texts in pieces of at most `limit`; each with the characters of text before it."""
    before = 0
    for part in content.parts:
        if not isinstance(part, Text):
            yield part, before
            continue
        offset = before
        for piece in _cut(part.text, limit):
            if piece.strip():
                yield Text(piece), offset
            offset += len(piece)
        before += len(part.text)


def _cut(text: str, limit: int, level: int = 0) -> Iterator[str]:
    """Pieces that are the text when joined, none longer than `limit`, cut at the coarsest places that allow it."""
    if len(text) <= limit:
        if text:
            yield text
        return
    if level == len(_CUTS):
        yield from (text[start : start + limit] for start in range(0, len(text), limit))
        return
    start = 0
    for found in _CUTS[level].finditer(text):
        if found.end() > start:
            yield from _cut(text[start : found.end()], limit, level + 1)
            start = found.end()
    yield from _cut(text[start:], limit, level + 1)
