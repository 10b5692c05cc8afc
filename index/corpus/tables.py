"""CSV, TSV and Parquet -> one document a row, by the columns id, text, image and metadata."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Final

from mmseek._addresses import address_of
from mmseek._types import Image
from mmseek.errors import ItemError, MissingExtra
from mmseek.index.corpus.decoding import decode
from mmseek.index.corpus.entries import Skipped
from mmseek.index.corpus.files import item_entry
from mmseek.jsonl import JsonLine

if TYPE_CHECKING:
    from mmseek.index.corpus.entries import Entry, ReadOptions, SourceFile

__all__ = ["read_csv", "read_parquet"]

MAX_LINE_CHARS: Final = 16 * 2**20
_SAMPLE: Final = 64 * 1024
_ROWS: Final = 64  # Parquet rows that are held at once
_ITEM_COLUMNS: Final = frozenset({"id", "text", "image", "metadata", "parent_id"})
_NO_CONTENT: Final = "is a table without a column named text or image: name one so, and it is read"


def read_csv(file: SourceFile, options: ReadOptions) -> Iterator[Entry]:
    """One document a row; other columns than id, text, image, metadata and parent_id go into its metadata."""
    try:
        with _lines(file) as lines:
            first = next(lines, "")
            names = next(csv.reader([first], delimiter=_delimiter(file, first)), [])
            columns = [_name(name) for name in names]
            if not {"text", "image"} & set(columns):
                yield Skipped(file.shown, _NO_CONTENT)
                return
            csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE_CHARS))
            rows = csv.reader(lines, delimiter=_delimiter(file, first))
            for row in rows:
                if any(row):
                    # The reader has not seen the first line.
                    yield _entry(file, rows.line_num + 1, dict(zip(columns, row, strict=False)), options)
    except ItemError as error:
        yield error
    except csv.Error as error:
        yield _broken(file, f"cannot be read as a table from here on: {error}")
    except UnicodeDecodeError:
        yield _broken(file, "changes its encoding on the way: save it as UTF-8")
    except OSError as error:
        yield _broken(file, f"cannot be read: {error.strerror}")


def read_parquet(file: SourceFile, options: ReadOptions) -> Iterator[Entry]:
    """As `read_csv`; a picture is bytes, a `{bytes, path}` as Hugging Face's datasets write it, or an address."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ModuleNotFoundError:
        yield _broken(file, str(MissingExtra("reading Parquet", "documents")))
        return
    try:
        with parquet.ParquetFile(str(file.path) if file.data is None else pa.BufferReader(file.data)) as table:
            if not {"text", "image"} & {_name(name) for name in table.schema_arrow.names}:
                yield Skipped(file.shown, _NO_CONTENT)
                return
            number = 0
            for batch in table.iter_batches(batch_size=_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield _entry(file, number, {_name(name): value for name, value in row.items()}, options)
    except (pa.ArrowException, OSError, ValueError):
        yield _broken(file, "is a damaged Parquet file: save it anew or leave it out")


def _broken(file: SourceFile, reason: str) -> ItemError:
    """An error of the whole file. It has no id, because the rows that are not read have ids of their own."""
    return ItemError(reason, source=file.shown)


def _entry(file: SourceFile, line: int, row: Mapping[str, Any], options: ReadOptions) -> Entry:
    """One row as a document."""
    try:
        return item_entry(file, JsonLine(line, _item(row)), options)
    except ItemError as error:
        return ItemError(error.reason, source=file.shown, line=line)


def _item(row: Mapping[str, Any]) -> dict[str, Any]:
    """The object of an item, as a line of a JSONL file has it."""
    item = {name: row[name] for name in _ITEM_COLUMNS if row.get(name) not in (None, "")}
    picture = item.pop("image", None)
    if isinstance(picture, Mapping):
        picture = picture.get("bytes") or picture.get("path")
    if picture is not None:
        item["image"] = address_of(Image(data=picture), None) if isinstance(picture, bytes) else picture
    for name in ("id", "parent_id"):
        if name in item:
            item[name] = str(item[name])
    told = {name: _plain(value) for name, value in row.items() if name not in _ITEM_COLUMNS and value not in (None, "")}
    item["metadata"] = told | _metadata(item.get("metadata"))
    return item


def _metadata(value: object) -> dict[str, Any]:
    if value is None:
        return {}
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, Mapping):
        raise ItemError("its metadata is no JSON object")
    return dict(found)


def _plain(value: Any) -> Any:
    """A value as JSON can say it: dates and decimals become text."""
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if isinstance(value, str | int | float | bool) else str(value)


def _name(column: str) -> str:
    """A column's name; those of items may be written in capitals."""
    column = column.strip().lstrip("\ufeff")
    return column.lower() if column.lower() in _ITEM_COLUMNS else column


def _delimiter(file: SourceFile, header: str) -> str:
    if file.path.suffix.lower() == ".tsv":
        return "\t"
    return max(",;\t|", key=header.count)


@contextmanager
def _lines(file: SourceFile) -> Iterator[Iterator[str]]:
    """The lines of a table as text, none longer than `MAX_LINE_CHARS`.

    Raises:
        ItemError: it is no text, or a line is too long; the latter when that line is reached.
    """
    sample = file.head(_SAMPLE)
    name = _encoding(sample)
    if name is None:
        raise _broken(file, "is no text in any known encoding: save it as UTF-8")
    raw: IO[bytes] = file.path.open("rb") if file.data is None else io.BytesIO(file.data)
    with raw, io.TextIOWrapper(raw, encoding=name, newline="") as text:
        yield _bounded(file, text)


def _bounded(file: SourceFile, text: IO[str]) -> Iterator[str]:
    number = 0
    while line := text.readline(MAX_LINE_CHARS + 1):
        number += 1
        if len(line) > MAX_LINE_CHARS:
            raise ItemError(
                f"is longer than {MAX_LINE_CHARS} characters; the table is read up to here: split it",
                source=file.shown,
                line=number,
            )
        yield line


def _encoding(sample: bytes) -> str | None:
    """What a table is written in, by its beginning, which may end inside a letter."""
    try:
        codecs.getincrementaldecoder("utf-8-sig")().decode(sample)
    except UnicodeDecodeError:
        found = decode(sample)
        return None if found is None else found[1]
    return None if b"\0" in sample else "utf-8-sig"
