"""Triples, one a line: `{"query": ITEM, "positives": [ITEM...], "negatives": [ITEM...], "instruction"?, "scores"?}`.

ITEM is mmseek's item format, or a text alone. `scores` are a teacher's, of the positives and then the negatives.
`mmseek mine` writes this format. Only where the lines begin is held in memory: 8 bytes a row.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmseek._types import EncodeRequest, Role
from mmseek.errors import InputError, ItemError
from mmseek.items import Item, item_to_json, parse_item
from mmseek.jsonl import read_json_lines
from mmseek.training.data.rows import TrainingRow

if TYPE_CHECKING:
    from mmseek.training.settings import SourceConfig

__all__ = ["TriplesFile", "open_source", "parse_row", "read_triples", "row_to_json"]

_KEYS: Final = ("query", "positives", "negatives", "instruction", "scores", "id", "metadata")


def open_source(config: SourceConfig) -> TriplesFile:
    """The reader of `format: triples`."""
    return TriplesFile(Path(config.path), name=config.name, instruction=config.instruction, limit=config.limit)


class TriplesFile:
    """A JSONL file of triples, read by line when a row is asked for.

    Args:
        path: the file.
        name: for messages and logs.
        instruction: for queries that have none of their own.
        limit: only so many usable rows.

    Raises:
        InputError: the file cannot be read or has no usable row.
    """

    def __init__(self, path: Path, *, name: str = "", instruction: str | None = None, limit: int | None = None) -> None:
        self.path = path
        self.name = name or path.stem
        self._instruction = instruction
        usable: list[int] = []
        bad: list[ItemError] = []
        for line, row in _rows(path):
            if isinstance(row, ItemError):
                bad.append(row)
            else:
                usable.append(line)
            if limit is not None and len(usable) == limit:
                break
        if not usable:
            reason = f"; the first reason: {bad[0]}" if bad else ""
            raise InputError(f"{path} holds no row to train on{reason}")
        self.bad = tuple(bad)
        self._lines = array("q", usable)
        self._offsets = _offsets(path, usable)

    def __len__(self) -> int:
        return len(self._offsets)

    def row(self, number: int) -> TrainingRow:
        """See `Source`."""
        with self.path.open("rb") as file:
            file.seek(self._offsets[number])
            raw = file.readline().removeprefix(b"\xef\xbb\xbf")
        try:
            return parse_row(json.loads(raw), base=self.path.parent, instruction=self._instruction)
        except (ValueError, ItemError) as error:
            reason = "is not what it was when the training began: leave the file alone while it is used"
            raise ItemError(reason, source=self.path, line=self._lines[number]) from error


def _offsets(path: Path, lines: list[int]) -> array[int]:
    """Where these lines (from 1, ascending) begin in the file."""
    found = array("q")
    wanted = iter(lines)
    line = next(wanted, None)
    with path.open("rb") as file:
        place = 0
        for number, raw in enumerate(file, start=1):
            if line is None:
                break
            if number == line:
                found.append(place)
                line = next(wanted, None)
            place += len(raw)
    return found


def read_triples(path: Path) -> Iterator[TrainingRow | ItemError]:
    """The rows of a file in bounded memory; a bad line is yielded as an error, with file and line, in its place.

    Raises:
        InputError: the file itself cannot be read.
    """
    return (row for _, row in _rows(path))


def _rows(path: Path) -> Iterator[tuple[int, TrainingRow | ItemError]]:
    for line in read_json_lines(path):
        if isinstance(line, ItemError):
            yield line.line or 0, line
            continue
        try:
            yield line.line, parse_row(line.value, base=path.parent)
        except ItemError as error:
            name = line.value.get("id")
            known = name if isinstance(name, str) else None
            yield line.line, ItemError(error.reason, source=path, line=line.line, item_id=known)


def parse_row(obj: Mapping[str, Any], *, base: Path | None, instruction: str | None = None) -> TrainingRow:
    """Check one decoded JSON object and make a row of it. The line's instruction wins over the query's own.

    Args:
        obj: the object.
        base: the folder that relative paths of pictures start from.
        instruction: for a query that has none.

    Raises:
        ItemError: what is wrong with it.
    """
    unknown = [key for key in obj if key not in _KEYS]
    if unknown:
        raise ItemError(f"the row has the unknown key {unknown[0]!r}: its keys are {', '.join(_KEYS)}")
    own = obj.get("instruction")
    if own is not None and not isinstance(own, str):
        raise ItemError("the row's instruction is not a text: write it in quotes")
    query = _request(obj.get("query"), "the query", "query", base)
    asked = next((text for text in (own, query.instruction, instruction) if text is not None), None)
    positives = _requests(obj, "positives", base)
    if not positives:
        raise ItemError("the row has no positives: give at least one document that the query should find")
    negatives = _requests(obj, "negatives", base)
    name = obj.get("id")
    return TrainingRow(
        EncodeRequest(query.content, "query", asked),
        positives,
        negatives,
        _scores(obj.get("scores"), len(positives) + len(negatives)),
        name if isinstance(name, str) else None,
    )


def _requests(obj: Mapping[str, Any], key: str, base: Path | None) -> tuple[EncodeRequest, ...]:
    values = obj.get(key)
    if values is None:
        return ()
    if not isinstance(values, list):
        raise ItemError(f"{key} must be a list of items")
    return tuple(_request(each, f"number {place} of {key}", "document", base) for place, each in enumerate(values, 1))


def _request(value: object, what: str, role: Role, base: Path | None) -> EncodeRequest:
    if value is None:
        raise ItemError(f'{what} is missing: give an item such as {{"text": ...}}')
    try:
        item = parse_item({"text": value} if isinstance(value, str) else value, base=base)
    except ItemError as error:
        raise ItemError(f"{what}: {error.reason}") from error
    return EncodeRequest(item.content, role, item.instruction)


def _scores(value: object, count: int) -> tuple[float, ...] | None:
    if value is None:
        return None
    numbers = value if isinstance(value, list) else []
    good = [float(each) for each in numbers if isinstance(each, int | float) and not isinstance(each, bool)]
    if not isinstance(value, list) or len(good) != count or not all(map(math.isfinite, good)):
        raise ItemError(f"scores must be {count} numbers: one for each of the positives, then the negatives")
    return tuple(good)


def row_to_json(row: TrainingRow, *, relative_to: Path | None = None) -> dict[str, Any]:
    """The JSON object of a row; `parse_row` makes an equal row of it.

    Args:
        row: the row.
        relative_to: the folder of the file that it will stand in, see `item_to_json`.
    """

    def item(request: EncodeRequest) -> dict[str, Any]:
        return item_to_json(Item(request.content, instruction=request.instruction), relative_to=relative_to)

    query = EncodeRequest(row.query.content, "query")
    found: dict[str, Any] = {} if row.id is None else {"id": row.id}
    found |= {"query": item(query), "positives": [item(each) for each in row.positives]}
    found["negatives"] = [item(each) for each in row.negatives]
    if row.query.instruction is not None:
        found["instruction"] = row.query.instruction
    if row.scores is not None:
        found["scores"] = list(row.scores)
    return found
