"""Rows of JSONL, JSON and Parquet files under one roof: in order, or by number, each with its place for messages."""

from __future__ import annotations

import json
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mmseek.errors import InputError, ItemError, MissingExtra
from mmseek.jsonl import read_json_lines

__all__ = ["ParquetRows", "TableRow", "read_table", "table_files"]

_SUFFIXES: Final = (".jsonl", ".json", ".parquet")
_GROUPS_HELD: Final = 8


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row, and where it stands: the line of a JSONL file, the number of a row (from 1) of another."""

    path: Path
    line: int
    value: dict[str, Any]

    def error(self, reason: str, item_id: str | None = None) -> ItemError:
        """What is wrong with it, with its place."""
        return ItemError(reason, source=self.path, line=self.line, item_id=item_id)


def table_files(path: Path, prefix: str = "") -> list[Path]:
    """The file itself, or the tables directly in a folder, sorted; of Parquet and JSON with one stem, both.

    Args:
        path: a file or a folder.
        prefix: only files whose names begin so.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        return []
    return sorted(each for each in path.iterdir() if each.suffix in _SUFFIXES and each.name.startswith(prefix))


def read_table(path: Path, columns: Sequence[str] | None = None) -> Iterator[TableRow | ItemError]:
    """The rows of a file in bounded memory; a bad line is its error. A `.json` file is read whole: a list
    of objects, or objects by name, which becomes their `guid`.

    Args:
        path: the file.
        columns: of a Parquet file, only these, where it has them.

    Raises:
        InputError: the file cannot be read.
        MissingExtra: a Parquet file without pyarrow.
    """
    if path.suffix == ".parquet":
        yield from ParquetRows(path).rows(columns)
    elif path.suffix == ".json":
        yield from _json_list(path)
    else:
        for row in read_json_lines(path):
            yield row if isinstance(row, ItemError) else TableRow(path, row.line, row.value)


def _json_list(path: Path) -> Iterator[TableRow | ItemError]:
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check the path") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}): for one object a line, name it .jsonl") from error
    if isinstance(values, dict) and all(isinstance(each, dict) for each in values.values()):
        values = [{"guid": name, **each} for name, each in values.items()]
    if not isinstance(values, list):
        raise InputError(f"{path} is not a list of objects: for one object a line, name it .jsonl")
    for number, value in enumerate(values, start=1):
        if isinstance(value, dict):
            yield TableRow(path, number, value)
        else:
            yield ItemError("is not an object", source=path, line=number)


class ParquetRows:
    """A Parquet file by row number; a few row groups are held at a time. Safe to read from several threads.

    Raises:
        InputError: the file cannot be read.
        MissingExtra: pyarrow is not installed.
    """

    def __init__(self, path: Path) -> None:
        parquet = _pyarrow()
        self.path = path
        try:
            self._file = parquet.ParquetFile(path)
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read as Parquet: {error}") from error
        meta = self._file.metadata
        self._starts = [0]
        for number in range(meta.num_row_groups):
            self._starts.append(self._starts[-1] + meta.row_group(number).num_rows)
        self._held: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        names: list[str] = self._file.schema_arrow.names
        return names

    def __len__(self) -> int:
        return self._starts[-1]

    def rows(self, columns: Sequence[str] | None = None) -> Iterator[TableRow]:
        """All rows in order."""
        asked = None if columns is None else [each for each in columns if each in self.columns]
        line = 0
        for batch in self._file.iter_batches(batch_size=256, columns=asked):
            for value in batch.to_pylist():
                line += 1
                yield TableRow(self.path, line, value)

    def row(self, number: int) -> TableRow:
        """The row of this number, from 0."""
        group = bisect_right(self._starts, number) - 1
        with self._lock:
            if group not in self._held:
                self._held[group] = self._file.read_row_group(group)
                while len(self._held) > _GROUPS_HELD:
                    self._held.popitem(last=False)
            self._held.move_to_end(group)
            table = self._held[group]
        (value,) = table.slice(number - self._starts[group], 1).to_pylist()
        return TableRow(self.path, number + 1, value)


def _pyarrow() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("reading Parquet files", "parquet") from error
    return parquet
