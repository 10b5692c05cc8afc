"""Rows of JSONL, JSON and Parquet tables as a `Source`: each format says how one row becomes a training row.

Of JSONL only where the lines begin is held in memory, of Parquet a few row groups; a `.json` file is held whole.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from mmseek._types import Content, EncodeRequest
from mmseek.errors import InputError, ItemError
from mmseek.evaluation.tables import ParquetRows, TableRow, read_table, table_files
from mmseek.training.data.rows import TrainingRow

__all__ = ["Parse", "TableSource", "documents", "query_of", "tables"]

Parse: TypeAlias = Callable[[Mapping[str, Any]], TrainingRow]


def tables(path: Path, split: str) -> list[Path]:
    """The table, or those of a folder or of its `data/`; of several, those whose names begin with the split.

    Raises:
        InputError: there is none.
    """
    files = table_files(path) or table_files(path / "data")
    files = [each for each in files if each.stem.startswith(split)] or files
    if not files:
        raise InputError(f"{path} is no table and holds none: give a .jsonl, .json or .parquet file, or their folder")
    return files


def query_of(content: Content, instruction: str | None) -> EncodeRequest:
    """The query side of a row."""
    return EncodeRequest(content, "query", instruction)


def documents(contents: Iterator[Content] | Sequence[Content]) -> tuple[EncodeRequest, ...]:
    """The document side of a row."""
    return tuple(EncodeRequest(each) for each in contents)


class TableSource:
    """The usable rows of some tables, by number; every row is looked at once when it is opened.

    Args:
        files: at least one, in order.
        parse: makes a training row of a table's row; an `ItemError` of it is that row's alone.
        name: for messages and logs.
        limit: only so many usable rows.

    Raises:
        InputError: a file cannot be read, or there is no usable row.
    """

    def __init__(self, files: Sequence[Path], parse: Parse, *, name: str, limit: int | None = None) -> None:
        self.name = name
        self._parse = parse
        self._tables: list[_Lines | _Listed | ParquetRows] = [_open(path) for path in files]
        self._places = array("q")  # which table, and the row in it, two numbers a row
        bad: list[ItemError] = []
        for number, table in enumerate(self._tables):
            for place, row in enumerate(table.rows()):
                if limit is not None and len(self) == limit:
                    break
                try:
                    if isinstance(row, ItemError):
                        raise row
                    self._parsed(row)
                except ItemError as error:
                    bad.append(error)
                else:
                    self._places.extend((number, place))
        if not len(self):
            reason = f"; the first reason: {bad[0]}" if bad else ""
            raise InputError(f"{files[0].parent if len(files) > 1 else files[0]} holds no row to train on{reason}")
        self.bad = tuple(bad)

    def __len__(self) -> int:
        return len(self._places) // 2

    def row(self, number: int) -> TrainingRow:
        """See `Source`."""
        table, place = self._places[2 * number], self._places[2 * number + 1]
        return self._parsed(self._tables[table].row(place))

    def _parsed(self, row: TableRow) -> TrainingRow:
        try:
            return self._parse(row.value)
        except ItemError as error:
            raise row.error(error.reason) from error


def _open(path: Path) -> _Lines | _Listed | ParquetRows:
    if path.suffix == ".parquet":
        return ParquetRows(path)
    return _Listed(path) if path.suffix == ".json" else _Lines(path)


class _Listed:
    """A list of objects in one JSON file."""

    def __init__(self, path: Path) -> None:
        self._rows = list(read_table(path))

    def rows(self) -> Iterator[TableRow | ItemError]:
        return iter(self._rows)

    def row(self, number: int) -> TableRow:
        found = self._rows[number]
        if isinstance(found, ItemError):
            raise found
        return found


class _Lines:
    """A JSONL file: where its lines begin is found on the first pass."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._starts = array("q")
        self._numbers = array("q")

    def rows(self) -> Iterator[TableRow | ItemError]:
        if not self.path.is_file():
            raise InputError(f"{self.path} does not exist or is no file: check the path")
        starts, numbers = array("q"), array("q")
        place = 0
        with self.path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                if raw.removeprefix(b"\xef\xbb\xbf").strip():
                    starts.append(place)
                    numbers.append(number)
                place += len(raw)
        self._starts, self._numbers = starts, numbers
        yield from read_table(self.path)

    def row(self, number: int) -> TableRow:
        line = self._numbers[number]
        with self.path.open("rb") as file:
            file.seek(self._starts[number])
            raw = file.readline().removeprefix(b"\xef\xbb\xbf")
        try:
            value = json.loads(raw)
            if not isinstance(value, dict):
                raise TypeError
        except (ValueError, TypeError) as error:
            reason = "is not what it was when the training began: leave the file alone while it is used"
            raise ItemError(reason, source=self.path, line=line) from error
        return TableRow(self.path, line, value)
