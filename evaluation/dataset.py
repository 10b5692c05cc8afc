"""Benchmark folders: `corpus.jsonl`, `queries.jsonl` and `qrels/{split}.tsv`, which is BEIR's layout with pictures.

Plain BEIR files (`_id`, `title`, `text`) are read as well. Format of BEIR: Thakur et al. 2021, arXiv:2104.08663.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmseek._types import Content, Document
from mmseek.errors import DatasetError, InputError, ItemError
from mmseek.evaluation.qrels import Judgements, read_qrels, split_file
from mmseek.evaluation.report import Problem, counted, naming
from mmseek.items import parse_item
from mmseek.jsonl import JsonLine, read_json_lines


@dataclass(frozen=True, slots=True)
class EvalQuery:
    """A query with what it may find.

    Args:
        id: as in the qrels.
        content: text, picture or both.
        instruction: what the encoder is asked to look for, if the dataset says so.
        exclude: documents that are never ranked, such as the query's own picture.
        candidates: if given, only these documents are ranked.
        task: `metadata.task`, the group that the query is reported under.
    """

    id: str
    content: Content
    instruction: str | None = None
    exclude: frozenset[str] = frozenset()
    candidates: frozenset[str] | None = None
    task: str | None = None


@dataclass(frozen=True, slots=True)
class Dataset:
    """The queries of one split with their judgements; the corpus is streamed.

    Args:
        name: the folder's name.
        path: the folder.
        split: which qrels.
        queries: those that the split judges, in the order of `queries.jsonl`.
        qrels: query id -> document id -> grade (1 and more), for exactly these queries.
        n_documents: lines of `corpus.jsonl`, the unusable ones included.
        skipped: queries that are not evaluated, and why.
        warnings: one sentence for each kind of thing that is odd.
    """

    name: str
    path: Path
    split: str
    queries: tuple[EvalQuery, ...]
    qrels: Mapping[str, Mapping[str, int]]
    n_documents: int
    skipped: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()

    def corpus(self) -> Iterator[Document | ItemError]:
        """Every document in the order of the file; a line that cannot be used, or repeats an id, is its error."""
        path = self.path / "corpus.jsonl"
        seen: dict[str, int] = {}
        for row in _rows(path):
            document = row if isinstance(row, ItemError) else _document(row, path)
            if isinstance(document, Document) and isinstance(row, JsonLine):
                first = seen.setdefault(document.id, row.line)
                if first != row.line:
                    document = _error(f"line {first} has the id {document.id!r} already", path, row.line, document.id)
            yield document


def load_dataset(path: str | Path, split: str = "test") -> Dataset:
    """Read the queries and judgements of one split, and the ids of the corpus.

    Args:
        path: a folder with `corpus.jsonl`, `queries.jsonl` and `qrels/`.
        split: the name of a file in `qrels/`, without `.tsv`.

    Raises:
        DatasetError: the folder does not have the layout, has no such split, a qrels line is broken, or nothing is left
            to evaluate. What is merely incomplete is counted and named in `skipped` and `warnings`.
    """
    folder = Path(path)
    for name in ("corpus.jsonl", "queries.jsonl", "qrels"):
        if not (folder / name).exists():
            raise DatasetError(f"{folder} has no {name}: a dataset is corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv")
    qrels_path = split_file(folder, split)
    judged = read_qrels(qrels_path)
    ids, n_documents = _corpus_ids(folder / "corpus.jsonl")
    queries, unreadable = _read_queries(folder / "queries.jsonl", judged)
    skipped = [*unreadable, *_absent(judged, {query.id for query in queries}, unreadable)]
    qrels = {query.id: judged.grades[query.id] for query in queries}
    if not queries:
        raise DatasetError(f"{qrels_path} leaves no query to evaluate: {_why_none(skipped)}")
    if not any(document_id in ids for row in qrels.values() for document_id in row):
        raise DatasetError(f"no document that {qrels_path} calls relevant is in corpus.jsonl: the ids do not match")
    return Dataset(
        name=folder.resolve().name,
        path=folder,
        split=split,
        queries=tuple(queries),
        qrels=qrels,
        n_documents=n_documents,
        skipped=tuple(skipped),
        warnings=tuple(_warnings(judged, queries, qrels, ids, skipped)),
    )


def _why_none(skipped: list[Problem]) -> str:
    if not skipped:
        return "it judges none"
    return f"{counted(len(skipped), 'query was', 'queries were')} skipped, the first because {skipped[0].reason}"


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


def _absent(judged: Judgements, usable: set[str], unreadable: list[Problem]) -> Iterator[Problem]:
    named = {problem.id for problem in unreadable}
    for query_id in judged.grades:
        if query_id not in usable and query_id not in named:
            yield Problem(query_id, "it is judged, but no line of queries.jsonl has this id")
    for query_id in judged.without_relevant:
        yield Problem(query_id, "the qrels call no document relevant to it")


def _warnings(
    judged: Judgements,
    queries: list[EvalQuery],
    qrels: Mapping[str, Mapping[str, int]],
    ids: set[str],
    skipped: list[Problem],
) -> Iterator[str]:
    if skipped:
        names = naming([problem.id for problem in skipped])
        yield f"{counted(len(skipped), 'query was', 'queries were')} not evaluated: {names}"
    if judged.not_relevant:
        lines = counted(judged.not_relevant, "judgement has", "judgements have")
        yield f"{lines} a score of 0 or less and {'counts' if judged.not_relevant == 1 else 'count'} as not relevant"
    if judged.repeated:
        yield f"{counted(judged.repeated, 'line of the qrels repeats', 'lines of the qrels repeat')} an earlier one"
    missing = list(dict.fromkeys(doc for row in qrels.values() for doc in row if doc not in ids))
    if missing:
        documents = counted(len(missing), "relevant document is", "relevant documents are")
        yield f"{documents} not in corpus.jsonl and never found: {naming(missing)}"
    unknown = list(dict.fromkeys(doc for query in queries for doc in sorted(query.candidates or ()) if doc not in ids))
    if unknown:
        yield f"{counted(len(unknown), 'candidate is', 'candidates are')} not in corpus.jsonl: {naming(unknown)}"
    barred = [query.id for query in queries if any(not _may_find(query, doc) for doc in qrels[query.id])]
    if barred:
        many = counted(len(barred), "query excludes, or has", "queries exclude, or have")
        yield f"{many} not among the candidates, a document that is relevant: {naming(barred)}"


def _may_find(query: EvalQuery, document_id: str) -> bool:
    return document_id not in query.exclude and (query.candidates is None or document_id in query.candidates)


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
