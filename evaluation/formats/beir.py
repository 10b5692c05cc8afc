"""BEIR's layout, with pictures: `corpus.jsonl`, `queries.jsonl` and `qrels/{split}.tsv`.

Plain BEIR files (`_id`, `title`, `text`) are read as well. Format of BEIR: Thakur et al. 2021, arXiv:2104.08663.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmseek._types import Document
from mmseek.errors import DatasetError, InputError, ItemError
from mmseek.evaluation.dataset import Dataset, EvalQuery, assemble
from mmseek.evaluation.qrels import Judgements, read_qrels, split_file
from mmseek.evaluation.report import Problem
from mmseek.items import parse_item
from mmseek.jsonl import JsonLine, read_json_lines

if TYPE_CHECKING:
    from mmseek.evaluation.formats import Wanted

__all__ = ["is_here", "load"]

_PARTS = ("corpus.jsonl", "queries.jsonl", "qrels")


def is_here(folder: Path) -> bool:
    """Whether the folder has one of the two files; `load` says what else is missing."""
    return any((folder / name).exists() for name in _PARTS[:2])


def load(folder: Path, wanted: Wanted) -> Dataset:
    """Read the queries and judgements of one split, and the ids of the corpus.

    Raises:
        DatasetError: the folder does not have the layout, has no such split, a qrels line is broken, or nothing is left
            to evaluate. What is merely incomplete is counted and named in `skipped` and `warnings`.
    """
    for name in _PARTS:
        if not (folder / name).exists():
            raise DatasetError(f"{folder} has no {name}: a dataset is corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv")
    qrels_path = split_file(folder, wanted.split)
    judged = read_qrels(qrels_path)
    corpus = folder / "corpus.jsonl"
    ids, n_documents = _corpus_ids(corpus)
    queries, unreadable = _read_queries(folder / "queries.jsonl", judged)
    return assemble(
        name=folder.resolve().name,
        path=folder,
        split=wanted.split,
        judged=judged,
        queries=queries,
        unreadable=unreadable,
        ids=ids,
        n_documents=n_documents,
        read=lambda: _read_corpus(corpus),
        qrels_name=str(qrels_path),
    )


def _read_corpus(path: Path) -> Iterator[Document | ItemError]:
    seen: dict[str, int] = {}
    for row in _rows(path):
        document = row if isinstance(row, ItemError) else _document(row, path)
        if isinstance(document, Document) and isinstance(row, JsonLine):
            first = seen.setdefault(document.id, row.line)
            if first != row.line:
                document = _error(f"line {first} has the id {document.id!r} already", path, row.line, document.id)
        yield document


def _read_queries(path: Path, judged: Judgements) -> tuple[list[EvalQuery], list[Problem]]:
    """The usable queries of the split, and what is wrong with the rest of its lines."""
    queries: dict[str, EvalQuery] = {}
    problems = []
    for row in _rows(path):
        query = row if isinstance(row, ItemError) else _query(row, path)
        if isinstance(query, ItemError):
            # A line of another split is not ours to report; one without an id might be ours.
            if query.item_id is None or query.item_id in judged.grades:
                problems.append(Problem(query.item_id, str(query)))
        elif query.id in queries:
            problems.append(Problem(query.id, f"{path} has its id on several lines, of which the first counts"))
        elif query.id in judged.grades:
            queries[query.id] = query
    return list(queries.values()), problems


def _corpus_ids(path: Path) -> tuple[set[str], int]:
    """The ids of a corpus and its number of lines; cheap beside encoding, and finds a wrong file before that."""
    ids: set[str] = set()
    lines = 0
    for row in _rows(path):
        lines += 1
        item_id = None if isinstance(row, ItemError) else row.value.get("id")
        if isinstance(item_id, str):
            ids.add(item_id)
    if not ids:
        raise DatasetError(f"{path} holds no document with an id: one JSON object a line is expected")
    return ids, lines


def _document(row: JsonLine, path: Path) -> Document | ItemError:
    try:
        _require_id(row, path)
        return parse_item(row.value, base=path.parent, source=path, line=row.line).to_document()
    except ItemError as error:
        return error


def _query(row: JsonLine, path: Path) -> EvalQuery | ItemError:
    own = {key: value for key, value in row.value.items() if key not in ("exclude", "candidates")}
    try:
        query_id = _require_id(row, path)
        item = parse_item(own, base=path.parent, source=path, line=row.line)
        exclude, candidates = _id_list(row, "exclude", path), _id_list(row, "candidates", path)
    except ItemError as error:
        return error
    task = item.metadata.get("task")
    return EvalQuery(
        id=query_id,
        content=item.content,
        instruction=item.instruction,
        exclude=exclude or frozenset(),
        candidates=candidates,
        task=None if task is None else str(task),
    )


def _require_id(row: JsonLine, path: Path) -> str:
    item_id = row.value.get("id")
    if not isinstance(item_id, str) or not item_id:
        raise _error("has no id: every document and query of a dataset needs one, a string", path, row.line, None)
    return item_id


def _id_list(row: JsonLine, key: str, path: Path) -> frozenset[str] | None:
    value = row.value.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _error(f"{key} must be a list of document ids", path, row.line, row.value["id"])
    return frozenset(value)


def _error(reason: str, path: Path, line: int, item_id: str | None) -> ItemError:
    return ItemError(reason, source=path, line=line, item_id=item_id)


def _rows(path: Path) -> Iterator[JsonLine | ItemError]:
    """The objects of a file in mmseek's keys; a broken line is its error."""
    try:
        for row in read_json_lines(path):
            yield row if isinstance(row, ItemError) else JsonLine(row.line, _from_beir(row.value))
    except ItemError:
        raise
    except InputError as error:
        raise DatasetError(str(error)) from error


def _from_beir(line: dict[str, Any]) -> dict[str, Any]:
    """Plain BEIR's `_id` and `title` in mmseek's keys; other keys of it have no meaning here."""
    if "_id" not in line or "id" in line:
        return line
    texts = [text for text in (line.get("title"), line.get("text")) if isinstance(text, str) and text]
    known = {"id": line["_id"], "text": "\n".join(texts)}
    kept = ("metadata", "exclude", "candidates", "instruction")
    return known | {key: line[key] for key in kept if key in line}
