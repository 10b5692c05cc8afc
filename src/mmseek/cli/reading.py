"""How `mmseek index` reads its sources: the options, and what they ask of the corpus readers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from mmseek.index.corpus import Entry

__all__ = ["FiguresOption", "Ocr", "OcrOption", "PassagesOption", "Reading", "TablesOption"]

_SECONDS_TO_COUNT: Final = 2.0


class Ocr(StrEnum):
    """Which pictures' words are read."""

    never = "never"
    auto = "auto"
    always = "always"


PassagesOption = Annotated[
    int, typer.Option("--passage-chars", metavar="N", min=0, help="Cut longer texts into passages; 0 never does.")
]
OcrOption = Annotated[
    Ocr, typer.Option("--ocr", help="Read the words of scanned pages of PDF (auto), or of all pages and pictures.")
]
FiguresOption = Annotated[
    bool, typer.Option("--pdf-figures", help="Make a document of each figure of a PDF too, with its caption.")
]
TablesOption = Annotated[
    bool, typer.Option("--pdf-tables", help="Write the tables of a PDF under its page's text, as Markdown.")
]


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read, and how.

    Args:
        sources: files and folders.
        passage_chars, ocr, pdf_figures, pdf_tables: as in `mmseek.index.corpus.read_corpus`.
    """

    sources: Sequence[str]
    passage_chars: int
    ocr: Ocr = Ocr.never
    pdf_figures: bool = False
    pdf_tables: bool = False

    def entries(self) -> Iterator[Entry]:
        """What stands in the sources."""
        from mmseek.index.corpus import read_corpus

        return read_corpus(
            self.sources,
            passage_chars=self.passage_chars,
            ocr=self.ocr.value,
            pdf_figures=self.pdf_figures,
            pdf_tables=self.pdf_tables,
        )

    def count(self) -> int | None:
        """How many items there are, for the time left; None if counting takes longer than it is worth."""
        from mmseek.index.corpus import Ended, Skipped, read_corpus

        if self.pdf_figures:
            return None  # only known when the pages have been looked at
        ends = time.monotonic() + _SECONDS_TO_COUNT
        total = 0
        for entry in read_corpus(self.sources, passage_chars=self.passage_chars):
            total += not isinstance(entry, Skipped | Ended)
            if time.monotonic() > ends:
                return None
        return total
