"""How `mmseek index` reads its sources: the options, and what they ask of the corpus readers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

import typer

from mmseek.errors import InputError

if TYPE_CHECKING:
    from mmseek.fetching import Fetcher
    from mmseek.index.corpus import Entry

__all__ = [
    "FiguresOption",
    "HostsOption",
    "Ocr",
    "OcrOption",
    "PassagesOption",
    "Reading",
    "SegmentsOption",
    "TablesOption",
    "UrlsOption",
]

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
    Ocr, typer.Option("--ocr", help="Read the words of scans, pages without text (auto), or of all pages and pictures.")
]
FiguresOption = Annotated[
    bool, typer.Option("--pdf-figures", help="Make a document of each figure of a PDF too, with its caption.")
]
TablesOption = Annotated[
    bool, typer.Option("--pdf-tables", help="Write the tables of a PDF under its page's text, as Markdown.")
]

UrlsOption = Annotated[
    bool, typer.Option("--allow-urls", help="Fetch SRC that are URLs and pictures on the web, of public hosts alone.")
]
HostsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--url-host",
        metavar="HOST",
        help="With --allow-urls: fetch from this host only, or from all below .HOST; may be given again.",
    ),
]

SegmentsOption = Annotated[
    float,
    typer.Option(
        "--video-segments", metavar="SECONDS", min=0, help="Make a document for each so many seconds of a video."
    ),
]


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read, and how.

    Args:
        sources: files, folders and URLs.
        passage_chars, ocr, pdf_figures, pdf_tables, video_segments: as in `mmseek.index.corpus.read_corpus`.
        allow_urls: fetch what is at URLs.
        hosts: if any, only from these.

    Raises:
        InputError: hosts are given, and nothing is to be fetched.
    """

    sources: Sequence[str]
    passage_chars: int
    ocr: Ocr = Ocr.never
    pdf_figures: bool = False
    pdf_tables: bool = False
    allow_urls: bool = False
    hosts: tuple[str, ...] = ()
    video_segments: float = 0.0

    def __post_init__(self) -> None:
        if self.hosts and not self.allow_urls:
            raise InputError("--url-host says which hosts --allow-urls fetches from: give both")

    def entries(self) -> Iterator[Entry]:
        """What stands in the sources."""
        from mmseek.index.corpus import read_corpus

        return read_corpus(
            self.sources,
            passage_chars=self.passage_chars,
            ocr=self.ocr.value,
            pdf_figures=self.pdf_figures,
            pdf_tables=self.pdf_tables,
            fetcher=self._fetcher(),
            video_segments=self.video_segments,
        )

    def _fetcher(self) -> Fetcher | None:
        from mmseek.config import settings
        from mmseek.fetching import Fetcher, FetchRules, UrlStore

        if not self.allow_urls:
            return None
        here = settings()
        if here.offline:
            raise InputError("MMSEEK_OFFLINE is set and --allow-urls given: leave one of them out")
        rules = FetchRules(hosts=self.hosts, max_bytes=int(here.max_image_bytes))
        return Fetcher(rules, store=UrlStore(here.cache_dir / "urls"))

    def count(self) -> int | None:
        """How many items there are, for the time left; None if counting takes longer than it is worth."""
        from mmseek.fetching import is_url
        from mmseek.index.corpus import Ended, Skipped, read_corpus

        if self.pdf_figures or self.video_segments or any(map(is_url, self.sources)):
            return None  # only known when the pages have been looked at
        ends = time.monotonic() + _SECONDS_TO_COUNT
        total = 0
        for entry in read_corpus(self.sources, passage_chars=self.passage_chars, allow_urls=self.allow_urls):
            total += not isinstance(entry, Skipped | Ended)
            if time.monotonic() > ends:
                return None
        return total
