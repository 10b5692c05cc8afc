"""The tables of a PDF's page as rows of Markdown (pdfplumber), so that a reader sees which cell is in which column."""

from __future__ import annotations

import importlib.util
import io
import logging
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from mmseek.errors import MissingExtra

if TYPE_CHECKING:
    from mmseek.index.corpus.entries import SourceFile

__all__ = ["TABLES_RECIPE", "check_tables", "markdown_rows", "tables_of"]

TABLES_RECIPE: Final = "tables 1"
_MOST_LINES: Final = 3000  # drawn on a page: more are a plan or a plot, whose "cells" take minutes
_MOST_CELLS: Final = 20_000

_lock = threading.Lock()
_kept: tuple[SourceFile, Any] | None = None


def check_tables() -> None:
    """Raise MissingExtra unless tables can be read."""
    if importlib.util.find_spec("pdfplumber") is None:
        raise MissingExtra("reading the tables of PDF", "pdf")


def tables_of(file: SourceFile, number: int, *, last: bool) -> str:
    """The ruled tables of page `number`, from 1, as Markdown; empty if there are none or they cannot be read.

    The text layer has their words in any case. `last` closes the file.
    """
    global _kept
    with _lock:
        try:
            if _kept is None or _kept[0] is not file:
                _close()
                _kept = (file, _open(file))
            page = _kept[1].pages[number - 1]
            try:
                tables = [] if _is_drawing(page) else page.extract_tables()
            finally:
                page.close()
        except Exception:  # noqa: BLE001  # hostile bytes make pdfminer raise anything, and the text is there without
            tables = []
        finally:
            if last:
                _close()
    return "\n\n".join(filter(None, (markdown_rows(table) for table in tables)))


def markdown_rows(table: Sequence[Sequence[str | None]]) -> str:
    """Rows of cells as a table of Markdown, the first as its head; empty for less than two rows or columns."""
    rows = [[_cell(cell) for cell in row] for row in table]
    rows = [row for row in rows if any(row)]
    if len(rows) < 2 or max(map(len, rows)) < 2 or sum(map(len, rows)) > _MOST_CELLS:
        return ""
    return "\n".join(_rows(rows))


def _rows(rows: list[list[str]]) -> Iterator[str]:
    columns = max(map(len, rows))
    for number, row in enumerate(rows):
        yield f"| {' | '.join([*row, *[''] * (columns - len(row))])} |"
        if number == 0:
            yield f"|{' --- |' * columns}"


def _cell(cell: str | None) -> str:
    return " ".join((cell or "").replace("\0", "").split()).replace("|", "\\|")


def _is_drawing(page: Any) -> bool:
    return len(page.lines) + len(page.rects) + len(page.curves) > _MOST_LINES


def _open(file: SourceFile) -> Any:
    check_tables()
    import pdfplumber

    logging.getLogger("pdfminer").setLevel(logging.CRITICAL)  # it tells of every oddity of a file
    return pdfplumber.open(str(file.path) if file.data is None else io.BytesIO(file.data))


def _close() -> None:
    global _kept
    if _kept is not None:
        _kept[1].close()
        _kept = None
