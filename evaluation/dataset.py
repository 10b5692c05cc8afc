"""What every format of a benchmark is read into: queries with their judgements, and a corpus that is streamed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from mmseek._types import Content, Document
from mmseek.errors import DatasetError, ItemError
from mmseek.evaluation.qrels import Judgements
from mmseek.evaluation.report import Problem, counted, naming

__all__ = ["HEADLINE", "Dataset", "EvalQuery", "assemble", "check_split"]

HEADLINE: Final = "ndcg@10"


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
        read: opens the corpus anew; see `corpus`.
        queries: those that the split judges, in the order of their files.
        qrels: query id -> document id -> grade (1 and more), for exactly these queries.
        n_documents: rows of the corpus, the unusable ones included.
        skipped: queries that are not evaluated, and why.
        warnings: one sentence for each kind of thing that is odd.
        headline: the metric that this benchmark is compared by.
        headlines: where a task has another one.
        corpus_name: what messages call the corpus.
    """

    name: str
    path: Path
    split: str
    read: Callable[[], Iterator[Document | ItemError]]
    queries: tuple[EvalQuery, ...]
    qrels: Mapping[str, Mapping[str, int]]
    n_documents: int
    skipped: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()
    headline: str = HEADLINE
    headlines: Mapping[str, str] = field(default_factory=dict)
    corpus_name: str = "corpus.jsonl"

    def corpus(self) -> Iterator[Document | ItemError]:
        """Every document in the order of the files; what cannot be used, or repeats an id, is its error."""
        return self.read()


def check_split(split: str, known: Iterable[str], folder: Path) -> None:
    """Refuse a split that is not there.

    Raises:
        DatasetError: names those that there are.
    """
    names = sorted(set(known))
    if split not in names:
        raise DatasetError(f"{folder} has no split {split!r}: choose one of {', '.join(names)}")


def assemble(
    *,
    name: str,
    path: Path,
    split: str,
    judged: Judgements,
    queries: Sequence[EvalQuery],
    unreadable: Sequence[Problem],
    ids: set[str],
    n_documents: int,
    read: Callable[[], Iterator[Document | ItemError]],
    qrels_name: str | None = None,
    corpus_name: str = "corpus.jsonl",
    queries_name: str = "queries.jsonl",
    headline: str = HEADLINE,
    headlines: Mapping[str, str] = MappingProxyType({}),
) -> Dataset:
    """Join what a reader found, count what is incomplete, and name it.

    Args:
        name, path, split, read, n_documents, headline, headlines, corpus_name: see `Dataset`.
        judged: the judgements.
        queries: the usable ones, all of them judged.
        unreadable: queries that could not be read.
        ids: of the corpus.
        qrels_name, queries_name: for messages.

    Raises:
        DatasetError: no query is left, or no relevant document is in the corpus.
    """
    source = qrels_name or f"the qrels of {path}"
    skipped = [*unreadable, *_absent(judged, {query.id for query in queries}, unreadable, queries_name)]
    qrels = {query.id: judged.grades[query.id] for query in queries}
    if not queries:
        raise DatasetError(f"{source} leaves no query to evaluate: {_why_none(skipped)}")
    if not any(document_id in ids for row in qrels.values() for document_id in row):
        raise DatasetError(f"no document that {source} calls relevant is in {corpus_name}: the ids do not match")
    return Dataset(
        name=name,
        path=path,
        split=split,
        read=read,
        queries=tuple(queries),
        qrels=qrels,
        n_documents=n_documents,
        skipped=tuple(skipped),
        warnings=tuple(_warnings(judged, queries, qrels, ids, skipped, corpus_name)),
        headline=headline,
        headlines=headlines,
        corpus_name=corpus_name,
    )


def _why_none(skipped: Sequence[Problem]) -> str:
    if not skipped:
        return "it judges none"
    return f"{counted(len(skipped), 'query was', 'queries were')} skipped, the first because {skipped[0].reason}"


def _absent(judged: Judgements, usable: set[str], unreadable: Sequence[Problem], file: str) -> Iterator[Problem]:
    named = {problem.id for problem in unreadable}
    for query_id in judged.grades:
        if query_id not in usable and query_id not in named:
            yield Problem(query_id, f"it is judged, but no line of {file} has this id")
    for query_id in judged.without_relevant:
        yield Problem(query_id, "the qrels call no document relevant to it")


def _warnings(
    judged: Judgements,
    queries: Sequence[EvalQuery],
    qrels: Mapping[str, Mapping[str, int]],
    ids: set[str],
    skipped: Sequence[Problem],
    corpus_name: str,
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
        yield f"{documents} not in {corpus_name} and never found: {naming(missing)}"
    # Queries often share one list, and lists can be long: each is looked at once.
    lists = {id(query.candidates): query.candidates or frozenset() for query in queries}
    unknown = list(dict.fromkeys(doc for each in lists.values() for doc in sorted(each - ids)))
    if unknown:
        yield f"{counted(len(unknown), 'candidate is', 'candidates are')} not in {corpus_name}: {naming(unknown)}"
    barred = [query.id for query in queries if any(not _may_find(query, doc) for doc in qrels[query.id])]
    if barred:
        many = counted(len(barred), "query excludes, or has", "queries exclude, or have")
        yield f"{many} not among the candidates, a document that is relevant: {naming(barred)}"


def _may_find(query: EvalQuery, document_id: str) -> bool:
    return document_id not in query.exclude and (query.candidates is None or document_id in query.candidates)
