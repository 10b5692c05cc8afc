"""Reads pairs from JSONL, one a line: `{"query": item, "document": item, "instruction"?, "id"?, "metadata"?}`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mmseek._types import Content, Pair
from mmseek.errors import ItemError
from mmseek.items import Item, parse_item
from mmseek.jsonl import read_json_lines

__all__ = ["PairLine", "parse_pair", "read_pairs"]

_KEYS: Final = ("query", "document", "instruction", "id", "metadata")


@dataclass(frozen=True, slots=True)
class PairLine:
    """A pair and the line (from 1) that it stands in."""

    pair: Pair
    line: int
    id: str | None = None


def read_pairs(path: Path) -> Iterator[PairLine | ItemError]:
    """The pairs of a file in bounded memory; a bad line is yielded as an error in its place.

    Paths of pictures are relative to the file's folder.

    Raises:
        InputError: the file itself cannot be read.
    """
    for row in read_json_lines(path):
        if isinstance(row, ItemError):
            yield row
            continue
        name = _name(row.value)
        try:
            yield PairLine(parse_pair(row.value, base=path.parent), row.line, name)
        except ItemError as error:
            yield ItemError(error.reason, source=path, line=row.line, item_id=name)


def parse_pair(obj: object, *, base: Path | None) -> Pair:
    """Check one decoded JSON object and make a pair of it.

    A side that holds nothing is allowed, for some models give the empty content a meaning. The instruction may stand
    in the pair or in its query; the pair's wins.

    Args:
        obj: the object.
        base: the folder that relative paths of pictures start from; None refuses every path.

    Raises:
        ItemError: what is wrong with it.
    """
    if not isinstance(obj, dict):
        raise ItemError('the line is not a JSON object: write {"query": ..., "document": ...}')
    unknown = [key for key in obj if key not in _KEYS]
    if unknown:
        raise ItemError(f"the pair has the unknown key {unknown[0]!r}: its keys are {', '.join(_KEYS)}")
    query, asked = _side(obj, "query", base)
    document, _ = _side(obj, "document", base)
    instruction = obj.get("instruction")
    if instruction is not None and not isinstance(instruction, str):
        raise ItemError("the pair's instruction is not a text: write it in quotes")
    return Pair(query, document, asked if instruction is None else instruction)


def _name(obj: object) -> str | None:
    name = obj.get("id") if isinstance(obj, dict) else None
    return name if isinstance(name, str) else None


def _side(obj: Mapping[str, Any], key: str, base: Path | None) -> tuple[Content, str | None]:
    """The content of one side and the instruction that it carries."""
    value = obj.get(key)
    if isinstance(value, str):
        return Content.of(value), None
    if not isinstance(value, dict):
        what = "is missing" if value is None else "is neither a text nor an object"
        raise ItemError(f'the pair\'s {key} {what}: give an item such as {{"text": ...}}')
    if all(value.get(part) is None for part in ("text", "image", "content")):
        # Checked as an item for its other keys.
        return Content(()), _item({**value, "text": "nothing"}, key, base).instruction
    item = _item(value, key, base)
    return item.content, item.instruction


def _item(value: Mapping[str, Any], key: str, base: Path | None) -> Item:
    try:
        return parse_item(dict(value), base=base)
    except ItemError as error:
        raise ItemError(f"its {key}: {error.reason}") from error
