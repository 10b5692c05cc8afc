"""`read_corpus`: files and folders in, documents out, one at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmseek.config import settings
from mmseek.errors import InputError
from mmseek.fetching import Fetcher, is_url, shown
from mmseek.index.corpus.entries import PASSAGE_CHARS, Entry, Located, ReadOptions, Skipped, SourceFile
from mmseek.index.corpus.folder import name_problem, walk
from mmseek.index.corpus.formats import KINDS, REFERRING, kind_of, read_file, unknown
from mmseek.index.corpus.ocr import OcrMode, check_ocr
from mmseek.index.corpus.page_words import with_words
from mmseek.index.corpus.pdf_tables import check_tables
from mmseek.index.corpus.remote import read_url, with_pictures
from mmseek.index.corpus.seen import SeenIds
from mmseek.index.manifest import NAME as COLLECTION_MARK
from mmseek.media import MediaLimits


def read_corpus(
    sources: str | Path | Sequence[str | Path],
    *,
    allow_urls: bool = False,
    follow_symlinks: bool = False,
    limits: MediaLimits | None = None,
    passage_chars: int = PASSAGE_CHARS,
    ocr: OcrMode = "never",
    pdf_figures: bool = False,
    pdf_tables: bool = False,
    fetcher: Fetcher | None = None,
    video_segments: float = 0.0,
) -> Iterator[Entry]:
    """Documents of files and folders, streamed in an order that depends on nothing but their names.

    - `.jsonl`: one item a line. A line without an id gets `FILE:LINE` (`notes.jsonl:7`).
    - pictures and videos: a document each, its id the path below the given folder (or the name of the file given).
    - texts (`.txt`, Markdown, HTML, DOCX, EPUB), in any encoding: one document each, text and pictures interleaved; a
      text of more than `passage_chars` characters becomes passages `FILE#1`, `FILE#2`, ..., whose parent is `FILE`.
    - PDF and PPTX: one document a page or slide, `FILE#n`, with `page` in its metadata.
    - CSV, TSV and Parquet: one document a row, by the columns id, text, image, metadata.
    - ZIP and tar: the files in them, `ARCHIVE/PATH`; pictures with texts of the same name are samples of a webdataset.
    - a URL, with a `fetcher`: what it gives, as the file that it is; its id is the URL.
    - a folder: all of these below it. First the files that refer to pictures, then the pictures that none of them
      refers to and the rest, each time by name. A file is taken for what its first bytes say, whatever its name. Other
      files are told as `Skipped`; names that begin with a dot are not looked at; where `queries.jsonl` stands beside
      `corpus.jsonl`, only the latter holds documents. Collections and `.failures.jsonl` reports of earlier runs are
      passed over.

    What cannot be used is yielded as an `ItemError`, and the rest goes on. An id that comes again is such an error: the
    first one wins. Memory: the ids seen and the pictures referred to, whatever the size of the files.

    Args:
        sources: files, folders and URLs, read in the order given; one that is given twice is read once.
        allow_urls: let items refer to pictures on the web, which are not fetched here.
        follow_symlinks: follow symbolic links found in folders. Those given as sources are always followed.
        limits: of the bytes of a picture that stands in a `data:` URI; by default those of the settings.
        passage_chars: texts of files longer than this are cut into passages; 0 never cuts.
        ocr: read the words in pictures: never, of pages of PDF without a text layer and of slides, pages and passages
            of pictures alone (`auto`), or of all pages and pictures, wherever they stand (`always`). What is read is a
            text after the picture, and `ocr` in the metadata is true.
        pdf_figures: make a document of each figure of a PDF too, `FILE#n#k`: the picture and its caption, with its
            `region` on the page in the metadata, [x0, y0, x1, y1] in points from the upper left.
        pdf_tables: write the ruled tables of a PDF under its page's text too, as Markdown.
        fetcher: fetches sources that are URLs, and pictures on the web that items, HTML and Markdown refer to. An item
            whose picture cannot be had is an `ItemError`; a page is read without it, and that is told.
        video_segments: make a document for each so many seconds of a video, `FILE#n`, with `start` and `end` in seconds
            in the metadata; at least 1, or 0 for one document of frames from the whole.

    Raises:
        MissingExtra: an optional part for this is not installed.
        InputError: before anything is read: a source is missing, unreadable or of an unknown format, or none is given.
    """
    given = [source if is_url(source) else Path(source) for source in _listed(sources)]
    if not given:
        raise InputError("there is nothing to read: give a file or a folder")
    for source in given:
        if isinstance(source, Path):
            _check(source)
        elif fetcher is None:
            raise InputError(f"{shown(source)} is a URL, and nothing is fetched unless you say so: pass --allow-urls")
    limits = limits or MediaLimits.from_settings(settings())
    if ocr != "never":
        check_ocr()
    if pdf_tables:
        check_tables()
    if video_segments and not 1 <= video_segments < float("inf"):
        raise InputError(f"a segment of a video has at least 1 second, not {video_segments:g}")
    options = ReadOptions(
        allow_urls=allow_urls or fetcher is not None,
        follow_symlinks=follow_symlinks,
        limits=limits,
        passage_chars=passage_chars,
        ocr=ocr,
        pdf_figures=pdf_figures,
        pdf_tables=pdf_tables,
        fetcher=fetcher,
        video_segments=video_segments,
    )
    entries: Iterator[Entry] = (entry for source in dict.fromkeys(given) for entry in _read(source, options))
    entries = entries if fetcher is None else with_pictures(entries, fetcher)
    return SeenIds().first_only(entries if ocr == "never" else with_words(entries, ocr, limits))


def _listed(sources: str | Path | Sequence[str | Path]) -> Sequence[str | Path]:
    return [sources] if isinstance(sources, str | Path) else sources


def _check(source: Path) -> None:
    """Raise InputError unless a source can be read."""
    if (problem := name_problem(source.name)) and not source.is_dir():
        raise InputError(f"{str(source)!r} cannot be read: {problem}")
    try:
        if source.is_dir():
            with os.scandir(source):
                pass
            if (source / COLLECTION_MARK).is_file():
                raise InputError(f"{source} is a collection, not a corpus: give the files that it was made of")
            return
        if source.exists() and not source.is_file():
            raise InputError(f"{source} is neither a file nor a folder: give one of them")
        with source.open("rb"):
            pass
    except FileNotFoundError:
        raise InputError(f"{source} does not exist: give a file or a folder that does") from None
    except OSError as error:
        raise InputError(f"{source} cannot be read ({error.strerror}): give a file or a folder that can") from None
    if kind_of(_as_file(source)) is None:
        known = " ".join(sorted(KINDS))
        raise InputError(f"{source} {unknown(source)}: give a folder, or a file of {known}")


def _as_file(source: Path) -> SourceFile:
    path = Path(os.path.abspath(source))  # noqa: PTH100
    return SourceFile(path=path, shown=str(source), id=path.name, root=path.parent)


def _read(source: str | Path, options: ReadOptions) -> Iterator[Entry]:
    if isinstance(source, str):
        yield from read_url(source, options, read_file)
    elif source.is_dir():
        yield from _read_folder(source, options)
    else:
        yield from read_file(_as_file(source), options)


def _read_folder(folder: Path, options: ReadOptions) -> Iterator[Entry]:
    referred: set[str] = set()
    for file in walk(folder, follow_symlinks=options.follow_symlinks):
        if not isinstance(file, SourceFile):
            yield file
        elif reason := _reason_to_skip(file):
            yield Skipped(file.shown, reason)
        elif kind_of(file) in REFERRING:
            for entry in read_file(file, options):
                referred.update(_picture_files(entry))
                yield entry
    for file in walk(folder, follow_symlinks=options.follow_symlinks):
        if isinstance(file, SourceFile) and not _reason_to_skip(file) and kind_of(file) not in REFERRING:
            if referred and os.path.realpath(file.path) in referred:
                continue
            yield from read_file(file, options)


def _reason_to_skip(file: SourceFile) -> str | None:
    if file.path.name == "queries.jsonl" and file.path.with_name("corpus.jsonl").is_file():
        return "holds the queries to the corpus.jsonl beside it"
    if file.path.name.endswith(".failures.jsonl"):
        return "is a report of an indexing run, not a part of a corpus"
    return None


def _picture_files(entry: Entry) -> Iterator[str]:
    if isinstance(entry, Located):
        for image in entry.content.images:
            if image.path is not None:
                yield os.path.realpath(image.path)
