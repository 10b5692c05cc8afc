"""MMEB: every query ranks about 1,000 candidates of its own (Jiang et al. 2024, arXiv:2410.05160, and its successor).

A folder with one table (Parquet or JSONL) a task, or one folder a task. Columns `qry_text, qry_img_path, tgt_text` and
`tgt_img_path`, the latter two lists of which **the first is right**; the second version adds `qry_inst` and `tgt_inst`.
Pictures stand in the folder, or in its `images/`. Marks of pictures in texts (`<|image_1|>`) are dropped: encoders
place their own.

Candidates are known by their content, so neither their order nor their name tells which is right, and equal scores
count against it: an encoder that gives everything one vector scores zero.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmseek._types import Document
from mmseek.errors import DatasetError, InputError, ItemError
from mmseek.evaluation.dataset import Dataset, EvalQuery, assemble
from mmseek.evaluation.formats.contents import content_key, content_of, picture_of, pictures_in
from mmseek.evaluation.qrels import Judgements
from mmseek.evaluation.report import Problem
from mmseek.evaluation.tables import ParquetRows, TableRow, read_table, table_files

if TYPE_CHECKING:
    from mmseek.evaluation.formats import Wanted

__all__ = ["as_list", "is_here", "load", "unmarked"]

_MARK: Final = re.compile(r"(<\|image_\d+\|>|<\|image_pad\|>|<image>)[ \t]?")
_NEEDED: Final = ("qry_text", "tgt_text")


def unmarked(text: str) -> str:
    """A text without the marks where pictures go; newlines stay."""
    return _MARK.sub("", text)


def as_list(value: object, what: str) -> list[Any]:
    """A list, or one that was written as text in Python's or JSON's way; a text that is none is a list of itself.

    Nothing is run: the text is parsed as literals.

    Raises:
        ItemError: it is neither.
    """
    if value is None:
        return []
    if isinstance(value, list):
        return value
    if not isinstance(value, str):
        raise ItemError(f"{what} is neither a list nor a text but {type(value).__name__}")
    if not (value.startswith("[") and value.endswith("]")):
        return [value] if value else []
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
        if isinstance(found, list):
            return found
    raise ItemError(f"{what} begins like a list but cannot be read as one")


def is_here(folder: Path) -> bool:
    """Whether a table has the columns."""
    return any(_has_columns(paths[0]) for paths in _tasks(folder, "test").values())


def _has_columns(path: Path) -> bool:
    try:
        if path.suffix == ".parquet":
            return all(name in ParquetRows(path).columns for name in _NEEDED)
        first = next(iter(read_table(path)), None)
    except InputError:
        return False
    return isinstance(first, TableRow) and all(name in first.value for name in _NEEDED)


def _tasks(folder: Path, split: str) -> dict[str, list[Path]]:
    """The tables of each task: of the folder itself, else of its sub-folders; those of the split if names say one."""

    def chosen(files: Sequence[Path]) -> list[Path]:
        return [path for path in files if path.stem.startswith(split)] or list(files)

    own = table_files(folder)
    if own:
        return {path.stem: [path] for path in own}
    below = {each.name: chosen(table_files(each)) for each in sorted(folder.iterdir()) if each.is_dir()}
    return {name: files for name, files in below.items() if files}


@dataclass(slots=True)
class _Found:
    """What the tables hold; the candidates themselves are read again when they are wanted."""

    queries: list[EvalQuery] = field(default_factory=list)
    judged: Judgements = field(default_factory=Judgements)
    unreadable: list[Problem] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)


def load(folder: Path, wanted: Wanted) -> Dataset:
    """Read the queries of all tasks with their candidates' names.

    Raises:
        DatasetError: there is no table, or no such task.
    """
    tasks = _tasks(folder, wanted.split)
    missing = [task for task in wanted.tasks if task not in tasks]
    if missing or not tasks:
        named = f"no task {missing[0]!r}: choose of {', '.join(tasks)}" if missing else "no table of queries"
        raise DatasetError(f"{folder} has {named}")
    if wanted.tasks:
        tasks = {task: tasks[task] for task in wanted.tasks}
    found = _Found()
    find = pictures_in(folder, folder.parent)
    for task, paths in tasks.items():
        rows = (row for path in paths for row in read_table(path))
        for number, row in enumerate(rows):
            if isinstance(row, ItemError):
                found.unreadable.append(Problem(None, str(row)))
            else:
                _add(found, task, f"{task}-{number}", row, find)
    return assemble(
        name=folder.resolve().name,
        path=folder,
        split=wanted.split,
        judged=found.judged,
        queries=found.queries,
        unreadable=found.unreadable,
        ids=found.ids,
        n_documents=len(found.ids),
        read=lambda: _read_corpus(tasks, find),
        qrels_name=str(folder),
        corpus_name="the candidates",
        headline="hit@1",
    )


def _add(found: _Found, task: str, query_id: str, row: TableRow, find: Callable[[str], Path]) -> None:
    value = row.value
    try:
        names = [content_key(*each) for each in _candidates(value)]
        text, asked = value.get("qry_text") or "", value.get("qry_inst") or None
        content = content_of(unmarked(text), picture_of(value.get("qry_img_path"), find))
    except (ItemError, TypeError) as error:
        reason = error.reason if isinstance(error, ItemError) else "a text is not a text"
        found.unreadable.append(Problem(query_id, str(row.error(reason, query_id))))
        return
    instruction = unmarked(asked).strip() if isinstance(asked, str) else None
    found.queries.append(EvalQuery(query_id, content, instruction, candidates=frozenset(names), task=task))
    found.judged.grades[query_id] = {names[0]: 1}
    found.ids.update(names)


def _candidates(value: dict[str, Any]) -> list[tuple[str, str]]:
    """Text and picture's path of each candidate.

    Raises:
        ItemError: there is none, or the lists do not go together.
    """
    texts, paths = as_list(value.get("tgt_text"), "tgt_text"), as_list(value.get("tgt_img_path"), "tgt_img_path")
    count = max(len(texts), len(paths))
    if not count:
        raise ItemError("has no candidates")
    if len(texts) not in (0, count) or len(paths) not in (0, count):
        raise ItemError(
            f"has {len(texts)} texts and {len(paths)} pictures as candidates: one list has to match the other"
        )
    asked = as_list(value.get("tgt_inst"), "tgt_inst") or [""]
    asked = asked * count if len(asked) == 1 else asked
    if len(asked) != count or not all(isinstance(each, str | None) for each in [*texts, *paths, *asked]):
        raise ItemError("a candidate is not a text, or tgt_inst does not match them")
    found = []
    for place in range(count):
        text = (texts[place] if texts else "") or ""
        said = " ".join(each for each in (unmarked(asked[place] or "").strip(), unmarked(text)) if each.strip())
        found.append((said, (paths[place] if paths else "") or ""))
    return found


def _read_corpus(tasks: dict[str, list[Path]], find: Callable[[str], Path]) -> Iterator[Document | ItemError]:
    seen: set[str] = set()
    for path in (path for paths in tasks.values() for path in paths):
        for row in read_table(path, ("tgt_text", "tgt_img_path", "tgt_inst")):
            if isinstance(row, ItemError):
                continue  # told as a query that cannot be read
            try:
                candidates = _candidates(row.value)
            except ItemError:
                continue  # likewise
            for text, picture in candidates:
                name = content_key(text, picture)
                if name in seen:
                    continue
                seen.add(name)
                try:
                    yield Document(name, content_of(text, picture_of(picture, find)))
                except ItemError as error:
                    yield row.error(f"a candidate {error.reason}", name)
