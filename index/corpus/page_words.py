"""The words of pictures inside documents: of web pages, office files, books, samples and rows, read beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmseek._types import Content, Document, Image, Part, Text
from mmseek.digest import digest
from mmseek.errors import MediaError, MmseekError
from mmseek.index.corpus.entries import Deferred, Located, held_bytes
from mmseek.index.corpus.ocr import OCR_RECIPE, new_lines, recognised

if TYPE_CHECKING:
    from mmseek.index.corpus.entries import Entry
    from mmseek.index.corpus.ocr import OcrMode
    from mmseek.media import MediaLimits

__all__ = ["with_words"]


def with_words(entries: Iterable[Entry], mode: OcrMode, limits: MediaLimits) -> Iterator[Entry]:
    """The same entries; documents whose pictures are to be read are made, with their words, when they are needed.

    The words of a picture are a text behind it, without the lines that the document says already, and `ocr` in the
    metadata is true where there were any. Frames of videos and pictures that are only addresses are not read. Pages of
    PDF have been read by their own reader, which knows their text layer.

    Args:
        entries: of a corpus, pictures fetched.
        mode: `always`: all pictures; `auto`: those of pages of a document (`Located.paged`) that have no text at all.
        limits: of the pictures.
    """
    for entry in entries:
        if not isinstance(entry, Located) or not _is_read(entry, mode):
            yield entry
            continue
        scan = _Scan(entry, limits)
        try:
            stamp = scan.digest()
        except MmseekError:
            yield entry  # its picture is not there or too large, which will be told when it is hashed again
        else:
            yield Deferred(entry.id, stamp, entry.source, scan.load, entry.line, held=held_bytes(entry.content))


def _is_read(entry: Located, mode: OcrMode) -> bool:
    if not any(map(_is_still, entry.content.images)):
        return False
    return mode == "always" or (mode == "auto" and entry.paged and not entry.content.text.strip())


def _is_still(image: Image) -> bool:
    return image.frame is None and image.url is None


@dataclass(frozen=True, slots=True)
class _Scan:
    """A document whose pictures are read when it is made."""

    plain: Located
    limits: MediaLimits

    def digest(self) -> str:
        """Of everything that the document is made of, the places of its pictures included.

        Raises:
            MmseekError: a picture cannot be read.
        """
        plain = self.plain
        own = digest(plain.content, plain.metadata, plain.parent_id, limits=self.limits)
        places = [None if image.path is None else str(image.path.absolute()) for image in plain.content.images]
        return hashlib.sha256(f"{OCR_RECIPE} {own} {places!r}".encode("utf-8", "surrogatepass")).hexdigest()

    def load(self) -> Document:
        """Read the pictures one after the other. What is wrong with one is told when it is encoded."""
        plain = self.plain
        known = plain.content.text
        parts: list[Part] = []
        for part in plain.content.parts:
            parts.append(part)
            if isinstance(part, Image) and _is_still(part):
                words = new_lines(known, self._words(part))
                if words:
                    parts.append(Text(words))
                    known = f"{known}\n{words}"
        if len(parts) == len(plain.content.parts):
            return Document(plain.id, plain.content, plain.metadata, plain.parent_id)
        return Document(plain.id, Content(tuple(parts)), {**plain.metadata, "ocr": True}, plain.parent_id)

    def _words(self, image: Image) -> str:
        try:
            return recognised(image, self.limits)
        except MediaError:
            return ""
