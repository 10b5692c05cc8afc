"""What reading a corpus gives: documents that know their place, errors, and notices of what was passed over."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from mmseek._types import Content, Document, Image
from mmseek.errors import ItemError
from mmseek.index.corpus.ocr import OcrMode
from mmseek.media import MediaLimits

if TYPE_CHECKING:
    from mmseek.fetching import Fetcher

PASSAGE_CHARS = 2000  # some 500 tokens: what the text towers of common encoders read at once


@dataclass(frozen=True, slots=True)
class Located(Document):
    """A document and the place that it was read from, so that a later failure can name it.

    Args:
        source: the file, as the caller would recognise it.
        line: 1-based line in that file, if it has lines of documents.
        paged: whether it is a page, slide or passage of a document, so that pictures without text are likely scans.
    """

    source: str = ""
    line: int | None = None
    paged: bool = False


@dataclass(frozen=True, slots=True)
class Deferred:
    """A document that is made when it is needed: not at all if the collection holds it with an equal digest.

    Args:
        id: of the document.
        digest: changes whenever the document would.
        source: the file, as the caller would recognise it.
        load: makes the document; an `MmseekError` that it raises is this document's alone.
        waits: whether making it is mostly waiting for somebody else, so that several are best made at once. Then `load`
            is called in any thread.
        held: bytes that are in memory for it until it is made.
    """

    id: str
    digest: str
    source: str
    load: Callable[[], Document]
    line: int | None = None
    waits: bool = False
    held: int = 0


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file of a folder that is no document, or a part of one that is left out. A notice, not a failure.

    `reason` is a clause without the place, as in `ItemError`.
    """

    source: str
    reason: str

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Ended:
    """A file was read to its end, so documents of it that an earlier run stored and this one has not are out of date.

    Args:
        id: of the file.
        children: how many pages or passages it has, `ID#1` to `ID#children`; 0 where it is one document, `ID`.
        empty: numbers among these with nothing in them, which are no documents.
        parts: of a file whose pages may have parts, `ID#n#1` to `ID#n#k`: n and k of those that have any.
    """

    id: str
    children: int
    empty: tuple[int, ...] = ()
    parts: tuple[tuple[int, int], ...] | None = None


def held_bytes(content: Content) -> int:
    """Bytes of the texts and of the pictures that are in memory; frames share their video."""
    held = {id(image.data): len(image.data) for image in content.images if image.data is not None}
    return sum(held.values()) + sum(map(len, content.texts))


Entry: TypeAlias = Document | ItemError | Skipped | Deferred | Ended


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file to read.

    Args:
        path: absolute, so that a stored picture is found from any working folder.
        shown: the path in messages: as the caller gave it, and the rest below.
        id: POSIX path below the given folder, or the file's name where it was given itself.
        root: the folder that the file's references may not leave.
        data: the file's bytes if it is a member of an archive or was fetched; then `path` is never opened.
        beside: gives the picture of a path inside the archive, or None if there is none.
        base: the URL that it was fetched from, which its links start from.
    """

    path: Path
    shown: str
    id: str
    root: Path
    data: bytes | None = field(default=None, repr=False)
    beside: Callable[[str], Image | None] | None = field(default=None, repr=False)
    base: str | None = None

    def head(self, size: int) -> bytes:
        """The first bytes; none where the file cannot be read, which reading it whole will tell."""
        if self.data is not None:
            return self.data[:size]
        try:
            with self.path.open("rb") as stream:
                return stream.read(size)
        except OSError:
            return b""

    def read(self, limit: int, what: str) -> bytes:
        """All bytes of a file that is read whole; `what` names its kind in the message.

        Raises:
            ItemError: it cannot be read, or has more than `limit` bytes.
        """
        data = self.data
        if data is None:
            try:
                with self.path.open("rb") as stream:
                    data = stream.read(limit + 1)
            except OSError as error:
                raise self.error(f"cannot be read: {error.strerror}") from error
        if len(data) > limit:
            raise self.error(f"is a {what} of more than {limit // 2**20} MiB: split it")
        return data

    def stamp(self) -> str:
        """SHA-256 of all bytes, in hex; read in pieces.

        Raises:
            ItemError: it cannot be read.
        """
        if self.data is not None:
            return hashlib.sha256(self.data).hexdigest()
        try:
            with self.path.open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise self.error(f"cannot be read: {error.strerror}") from error

    def error(self, reason: str) -> ItemError:
        """An error of this file, with its place."""
        return ItemError(reason, source=self.shown, item_id=self.id)


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What a reader may do.

    Args:
        allow_urls: take pictures of http(s) addresses.
        follow_symlinks: follow symbolic links.
        limits: how large an inline picture may be.
        passage_chars: a text longer than this is cut into passages; 0 never cuts.
        ocr: whether the words in pictures are read: never, of pages without any text (auto), or of all pictures
            (always).
        pdf_figures: make a document of each figure of a PDF too.
        pdf_tables: write the tables of a PDF under its page's text, as Markdown.
        fetcher: fetches what is at http(s) addresses.
        video_segments: a video becomes a document for each so many seconds; 0: one document.
    """

    allow_urls: bool = False
    follow_symlinks: bool = False
    limits: MediaLimits = field(default_factory=MediaLimits)
    passage_chars: int = PASSAGE_CHARS
    ocr: OcrMode = "never"
    pdf_figures: bool = False
    pdf_tables: bool = False
    fetcher: Fetcher | None = None
    video_segments: float = 0.0
