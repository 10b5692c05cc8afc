"""Pages found by questions, as the ViDoRe benchmarks publish them (Faysse et al. 2024, arXiv:2407.01449).

Two layouts: tables in `corpus/`, `queries/` and `qrels/` (`corpus-id, image`; `query-id, query`; `query-id, corpus-id,
score`); or one table with `query, image, image_filename` a row. Pictures may be bytes in a cell. Compared by
ndcg@5 with the grade as gain, which MMEB's second version calls ndcg_linear@5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmseek._types import Content, Document, Text
from mmseek.errors import DatasetError, InputError, ItemError
from mmseek.evaluation.dataset import Dataset, EvalQuery, assemble, check_split
from mmseek.evaluation.formats.contents import content_key, content_of, picture_of, pictures_in
from mmseek.evaluation.qrels import Judgements, collect
from mmseek.evaluation.report import Problem
from mmseek.evaluation.tables import ParquetRows, TableRow, read_table, table_files

if TYPE_CHECKING:
    from mmseek.evaluation.formats import Wanted

__all__ = ["is_here", "load"]

_PARTS: Final = ("corpus", "queries", "qrels")
_FLAT: Final = ("query", "image")


def is_here(folder: Path) -> bool:
    """Whether there are three folders of tables, or tables with questions and pages."""
    return all(table_files(folder / part) for part in _PARTS) or any(_is_flat(path) for path in _flat_files(folder))


def _flat_files(folder: Path) -> list[Path]:
    return table_files(folder) or table_files(folder / "data")


def _is_flat(path: Path) -> bool:
    try:
        if path.suffix == ".parquet":
            return all(name in ParquetRows(path).columns for name in _FLAT)
        first = next(iter(read_table(path)), None)
    except InputError:
        return False
    return isinstance(first, TableRow) and all(name in first.value for name in _FLAT)


def load(folder: Path, wanted: Wanted) -> Dataset:
    """Read questions and judgements; pages are streamed.

    Raises:
        DatasetError: a table is missing or broken, or there is no such split.
    """
    if all(table_files(folder / part) for part in _PARTS):
        return _three_tables(folder, wanted)
    return _one_table(folder, wanted)


def _of_split(files: Sequence[Path], split: str, folder: Path) -> list[Path]:
    check_split(split, (path.stem.split("-")[0] for path in files), folder)
    return [path for path in files if path.stem.split("-")[0] == split]


def _three_tables(folder: Path, wanted: Wanted) -> Dataset:
    files = {part: _of_split(table_files(folder / part), wanted.split, folder / part) for part in _PARTS}
    judged = collect(files["qrels"][0], _judgements(files["qrels"]))
    queries: dict[str, EvalQuery] = {}
    unreadable = []
    for row in _all(files["queries"]):
        query = row if isinstance(row, ItemError) else _query(row)
        if isinstance(query, ItemError):
            unreadable.append(Problem(query.item_id, str(query)))
        elif query.id in judged.grades:
            queries.setdefault(query.id, query)
    ids = set()
    rows = 0
    for row in _all(files["corpus"], ("corpus-id", "corpus_id", "_id", "id")):
        rows += 1
        ids.add("" if isinstance(row, ItemError) else _id(row.value, "corpus"))
    find = pictures_in(folder)
    return assemble(
        name=folder.resolve().name,
        path=folder,
        split=wanted.split,
        judged=judged,
        queries=list(queries.values()),
        unreadable=unreadable,
        ids=ids,
        n_documents=rows,
        read=lambda: _pages(files["corpus"], find),
        qrels_name=str(folder / "qrels"),
        corpus_name="the corpus",
        queries_name="the queries",
        headline="ndcg@5",
    )


def _all(files: Sequence[Path], columns: Sequence[str] | None = None) -> Iterator[TableRow | ItemError]:
    return (row for path in files for row in read_table(path, columns))


def _id(value: dict[str, Any], kind: str) -> str:
    found = next((value[key] for key in (f"{kind}-id", f"{kind}_id", "_id", "id") if value.get(key) is not None), "")
    return str(found)


def _judgements(files: Sequence[Path]) -> Iterator[tuple[int, str, str, int]]:
    for row in _all(files):
        if isinstance(row, ItemError):
            raise DatasetError(str(row))
        score = row.value.get("score", 1)
        query, page = _id(row.value, "query"), _id(row.value, "corpus")
        if not query or not page or not isinstance(score, int | float) or score != int(score):
            raise DatasetError(str(row.error("needs query-id, corpus-id and a whole number as score")))
        yield row.line, query, page, int(score)


def _query(row: TableRow) -> EvalQuery | ItemError:
    query_id, text = _id(row.value, "query"), row.value.get("query", row.value.get("text"))
    if not query_id or not isinstance(text, str) or not text.strip():
        return row.error("needs a query-id and a query", query_id or None)
    task = row.value.get("language")
    return EvalQuery(query_id, Content((Text(text),)), task=task if isinstance(task, str) else None)


def _pages(files: Sequence[Path], find: Callable[[str], Path]) -> Iterator[Document | ItemError]:
    seen: set[str] = set()
    for row in _all(files):
        if isinstance(row, ItemError):
            yield row
            continue
        name = _id(row.value, "corpus")
        if not name or name in seen:
            yield row.error(
                f"an earlier page has the id {name!r} already" if name else "has no corpus-id", name or None
            )
            continue
        seen.add(name)
        yield _page(row, name, find)


def _page(row: TableRow, name: str, find: Callable[[str], Path]) -> Document | ItemError:
    try:
        picture = picture_of(row.value.get("image"), find)
        # The text beside a page is what a machine read off it: of the page alone there is the picture.
        return Document(name, content_of(None if picture else row.value.get("text"), picture))
    except ItemError as error:
        return row.error(error.reason, name)


def _one_table(folder: Path, wanted: Wanted) -> Dataset:
    files = [path for path in _of_split(_flat_files(folder), wanted.split, folder) if _is_flat(path)]
    judged = Judgements()
    queries: dict[str, EvalQuery] = {}
    unreadable: list[Problem] = []
    ids: set[str] = set()
    for row in _all(files):
        if isinstance(row, ItemError):
            unreadable.append(Problem(None, str(row)))
            continue
        page = _flat_name(row.value)
        ids.add(page)
        question = row.value.get("query")
        if not isinstance(question, str) or not question.strip():
            continue  # a page that nobody asks for
        query_id = f"q-{content_key(question, '')}"
        queries.setdefault(query_id, EvalQuery(query_id, Content((Text(question),))))
        judged.grades.setdefault(query_id, {})[page] = 1
    find = pictures_in(folder)
    return assemble(
        name=folder.resolve().name,
        path=folder,
        split=wanted.split,
        judged=judged,
        queries=list(queries.values()),
        unreadable=unreadable,
        ids=ids,
        n_documents=len(ids),
        read=lambda: _flat_pages(files, find),
        qrels_name=str(folder),
        corpus_name="the pages",
        headline="ndcg@5",
    )


def _flat_name(value: dict[str, Any]) -> str:
    name = value.get("image_filename")
    if isinstance(name, str) and name:
        return name
    cell = value.get("image")
    return content_key("", (cell.get("bytes") or cell.get("path")) if isinstance(cell, dict) else cell)


def _flat_pages(files: Sequence[Path], find: Callable[[str], Path]) -> Iterator[Document | ItemError]:
    seen: set[str] = set()
    for row in _all(files):
        if isinstance(row, ItemError):
            continue  # told as a query that cannot be read
        name = _flat_name(row.value)
        if name not in seen:
            seen.add(name)
            yield _page(row, name, find)
