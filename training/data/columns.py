"""Plain pairs and triples in tables, Parquet or JSONL.

Columns `query, positive, negative`, as text, each with `..._image` for a picture (a path, bytes, or the cell of the
`datasets` library); a cell may be a list, and `negative_1, negative_2 ...` count as well. `anchor` is the query too, as
sentence-transformers has it; `instruction` is the query's. Rows of mmseek's own triples are read from Parquet too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmseek._types import Content
from mmseek.errors import ItemError
from mmseek.evaluation.formats.contents import content_of, picture_of, pictures_in
from mmseek.training.data.rows import TrainingRow
from mmseek.training.data.tables import TableSource, documents, query_of, tables
from mmseek.training.data.triples import parse_row as parse_triple

if TYPE_CHECKING:
    from mmseek.training.settings import SourceConfig

__all__ = ["open_source", "parse_row"]

_SIDES: Final[Mapping[str, tuple[str, ...]]] = {
    "query": ("query", "anchor"),
    "positive": ("positive", "pos", "document"),
    "negative": ("negative", "neg"),
}
_NUMBERED: Final = re.compile(r"negative_\d+(_image)?")


def open_source(config: SourceConfig) -> TableSource:
    """The reader of `format: table`."""
    path = Path(config.path)
    folder = path if path.is_dir() else path.parent
    find = pictures_in(folder)

    def parse(value: Mapping[str, Any]) -> TrainingRow:
        if "positives" in value:
            return parse_triple(_without_none(value), base=folder, instruction=config.instruction)
        return parse_row(value, find, config.instruction)

    return TableSource(tables(path, config.split), parse, name=config.name or path.stem, limit=config.limit)


def parse_row(value: Mapping[str, Any], find: Callable[[str], Path], instruction: str | None = None) -> TrainingRow:
    """One row with a column for each side.

    Raises:
        ItemError: there is no query or no positive, or a cell is of another kind.
    """
    query = _side(value, "query", find)
    positives = _side(value, "positive", find)
    if len(query) != 1:
        raise ItemError("has no query, or several: give one in the column query")
    if not positives:
        raise ItemError("has no positive: give what the query should find in the column positive")
    negatives = _side(value, "negative", find)
    for name in sorted({key.removesuffix("_image") for key in value if _NUMBERED.fullmatch(key)}):
        negatives += _contents(value.get(name), value.get(f"{name}_image"), find, name)
    own = value.get("instruction")
    asked = own if isinstance(own, str) and own else instruction
    known = value.get("id")
    return TrainingRow(
        query_of(query[0], asked),
        documents(positives),
        documents(negatives),
        id=known if isinstance(known, str) else None,
    )


def _side(value: Mapping[str, Any], side: str, find: Callable[[str], Path]) -> list[Content]:
    for name in _SIDES[side]:
        if name in value or f"{name}_image" in value:
            return _contents(value.get(name), value.get(f"{name}_image"), find, name)
    return []


def _contents(texts: object, pictures: object, find: Callable[[str], Path], name: str) -> list[Content]:
    words = texts if isinstance(texts, list) else [] if texts is None else [texts]
    cells = pictures if isinstance(pictures, list) else [] if pictures is None else [pictures]
    if words and cells and len(words) != len(cells):
        raise ItemError(f"{name} has {len(words)} texts and {len(cells)} pictures: one list has to match the other")
    found = []
    for text, cell in zip_longest(words, cells):
        picture = picture_of(cell, find)
        if picture is not None or text not in (None, ""):
            found.append(content_of(text, picture))
    return found


def _without_none(value: Any) -> Any:
    """Parquet has every key in every row: what is null was not there."""
    if isinstance(value, dict):
        return {key: _without_none(each) for key, each in value.items() if each is not None}
    return [_without_none(each) for each in value] if isinstance(value, list) else value
