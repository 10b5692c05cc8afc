"""What reading a corpus gives: documents that know their place, errors, and notices of what was passed over."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from mmseek._types import Document
from mmseek.errors import ItemError
from mmseek.media import MediaLimits


@dataclass(frozen=True, slots=True)
class Located(Document):
    """A document and the place that it was read from, so that a later failure can name it.

    Args:
        source: the file, as the caller would recognise it.
        line: 1-based line in that file, if it has lines of documents.
    """

    source: str = ""
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file of a folder that is no document. A notice, not a failure.

    `reason` is a clause without the place, as in `ItemError`.
    """

    source: str
    reason: str

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"


Entry: TypeAlias = Document | ItemError | Skipped


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file to read.

    Args:
        path: absolute, so that a stored picture is found from any working folder.
        shown: the path in messages: as the caller gave it, and the rest below.
        id: POSIX path below the given folder, or the file's name where it was given itself.
        root: the folder that the file's references may not leave.
    """

    path: Path
    shown: str
    id: str
    root: Path


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What a reader may do: take http(s) pictures, follow symbolic links, and how large an inline picture may be."""

    allow_urls: bool = False
    follow_symlinks: bool = False
    limits: MediaLimits = field(default_factory=MediaLimits)
