"""MMEB-train, and mmE5's sets, which have its columns and several hard negatives.

Columns `qry, qry_image_path, pos_text, pos_image_path, neg_text, neg_image_path` (Jiang et al. 2024, arXiv:2410.05160).
A cell of negatives is a text, a list, or a list that was written as text (mmE5, Chen et al. 2025, arXiv:2502.08468): it
is parsed as literals and never run. Marks of pictures in the texts are dropped: encoders place their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmseek._types import Content
from mmseek.errors import ItemError
from mmseek.evaluation.formats.contents import content_of, picture_of, pictures_in
from mmseek.evaluation.formats.mmeb import as_list, unmarked
from mmseek.training.data.rows import TrainingRow
from mmseek.training.data.tables import TableSource, documents, query_of, tables

if TYPE_CHECKING:
    from mmseek.training.settings import SourceConfig

__all__ = ["open_source", "parse_row"]


def open_source(config: SourceConfig) -> TableSource:
    """The reader of `format: mmeb` and `format: mme5`; pictures stand in the folder, its `images/`, or beside it."""
    path = Path(config.path)
    folder = path if path.is_dir() else path.parent
    find = pictures_in(folder, folder.parent)
    return TableSource(
        tables(path, config.split),
        lambda value: parse_row(value, find, config.instruction),
        name=config.name or path.stem,
        limit=config.limit,
    )


def parse_row(value: Mapping[str, Any], find: Callable[[str], Path], instruction: str | None = None) -> TrainingRow:
    """One row of the table.

    Raises:
        ItemError: the query or the positive is missing, or a cell is of another kind.
    """
    if "qry" not in value or ("pos_text" not in value and "pos_image_path" not in value):
        raise ItemError("has no qry or no pos_text: MMEB's columns are qry, qry_image_path, pos_text, pos_image_path")
    query = _side(value.get("qry"), value.get("qry_image_path"), find)
    positives = _sides(value, "pos", find)
    if query is None or not positives:
        raise ItemError(f"the {'query' if query is None else 'positive'} is empty")
    return TrainingRow(query_of(query, instruction), documents(positives), documents(_sides(value, "neg", find)))


def _sides(value: Mapping[str, Any], kind: str, find: Callable[[str], Path]) -> list[Content]:
    texts = as_list(value.get(f"{kind}_text"), f"{kind}_text")
    paths = as_list(value.get(f"{kind}_image_path"), f"{kind}_image_path")
    if texts and paths and len(texts) != len(paths):
        raise ItemError(f"{kind}_text has {len(texts)} entries, but {kind}_image_path {len(paths)}")
    found = (_side(text, path, find) for text, path in zip_longest(texts, paths))
    return [each for each in found if each is not None]


def _side(text: object, path: object, find: Callable[[str], Path]) -> Content | None:
    """Content, or None where the cells are empty."""
    if not isinstance(text, str | None):
        raise ItemError(f"a text is not a text but {type(text).__name__}")
    words, picture = unmarked(text or "").strip(), picture_of(path, find)
    return content_of(words, picture) if words or picture else None
