"""Measuring a whole retriever: its index, its words beside its vectors, and its rerankers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmseek._types import Document, Query
from mmseek.errors import DatasetError, InputError, ModelError
from mmseek.evaluation import metrics
from mmseek.evaluation.details import ids_of, look
from mmseek.evaluation.evidence import gather, task_rows
from mmseek.evaluation.formats import load_dataset
from mmseek.evaluation.ranking import Ranked
from mmseek.evaluation.report import EvalReport, Problem, counted, naming

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mmseek._types import Hit, SearchMode
    from mmseek.evaluation.dataset import Dataset, EvalQuery
    from mmseek.evaluation.rag.rows import RagData
    from mmseek.pipeline import Retriever

__all__ = ["evaluate_retriever", "index_dataset"]


def index_dataset(data: Dataset | RagData, retriever: Retriever) -> tuple[Problem, ...]:
    """Put the corpus into the retriever's collection; what cannot be used is returned.

    Raises:
        CollectionError: the collection was opened for reading.
    """
    failed: list[Problem] = []

    def documents() -> Iterator[Document]:
        for each in data.corpus():
            if isinstance(each, Document):
                yield each
            else:
                failed.append(Problem(each.item_id, str(each)))

    report = retriever.add(documents())
    return (*failed, *(Problem(each.item_id, str(each)) for each in report.failed))


def evaluate_retriever(
    dataset: Dataset | Path | str,
    retriever: Retriever,
    *,
    mode: SearchMode = "dense",
    k: int = 100,
    failed_corpus: Sequence[Problem] = (),
    details: bool = False,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> EvalReport:
    """Measure what a retriever gives for each query: as `evaluate` does of an encoder, with the same figures.

    The retriever searches as it does for anyone: with its index, by vector, in words or both, and with its rerankers.
    Hits of equal score are ordered against the relevant ones, as far as they were given.

    Args:
        dataset: a loaded dataset, or its folder.
        retriever: its collection holds the dataset's corpus.
        mode: `dense`, `lexical` or `hybrid`.
        k: depth of the ranking.
        failed_corpus: documents that could not be indexed, for the report.
        details: whether the report has what a page shows beside the figures.
        on_progress: called after each query.

    Raises:
        DatasetError: the collection holds no relevant document of the dataset.
        InputError: k is less than 1.
    """
    if k < 1:
        raise InputError(f"k is the depth of the ranking and must be at least 1, not {k}")
    data = load_dataset(dataset) if isinstance(dataset, str | Path) else dataset
    ids = [document.id for document in retriever.collection.documents()]
    wanted = {each for row in data.qrels.values() for each in row}
    if wanted.isdisjoint(ids):
        raise DatasetError(
            f"{retriever.collection.info().location} holds no document that {data.name} calls relevant: "
            "index its corpus there"
        )
    found, failed = _search_all(data, retriever, mode, k, ids, on_progress)
    evidence = gather(data, ids, found)
    names = [metric for metric in metrics.METRICS if metrics.cutoff(metric) <= k]
    identity = retriever.encoder.identity
    return EvalReport(
        dataset=data.name,
        split=data.split,
        encoder=identity.spec,
        fingerprint=identity.fingerprint,
        n_documents=len(ids),
        overall=evidence.summary(names, np.arange(len(data.queries))),
        by_task={task: evidence.summary(names, rows) for task, rows in task_rows(data.queries).items()},
        warnings=[*data.warnings, *_warnings(failed, failed_corpus)],
        skipped_queries=data.skipped,
        failed_queries=failed,
        failed_corpus=failed_corpus,
        searched=_how(retriever, mode),
        headline=data.headline,
        headlines=data.headlines,
        per_query=evidence.per_query(data.queries, names),
        details=look(data, None, None, ids_of(found, ids)) if details else None,
    )


def _search_all(
    data: Dataset,
    retriever: Retriever,
    mode: SearchMode,
    k: int,
    ids: Sequence[str],
    on_progress: Callable[[str, int, int], None] | None,
) -> tuple[dict[str, Ranked], list[Problem]]:
    row_of = {document_id: row for row, document_id in enumerate(ids)}
    found: dict[str, Ranked] = {}
    failed: list[Problem] = []
    for query in data.queries:
        try:
            hits = retriever.search(_asked(query, mode, k)).hits
        except (InputError, ModelError) as error:
            failed.append(Problem(query.id, str(error)))
        else:
            known = [hit for hit in hits if hit.id in row_of]
            found[query.id] = _against(known, data.qrels[query.id], row_of)
        if on_progress is not None:
            on_progress("searching", len(found) + len(failed), len(data.queries))
    return found, failed


def _asked(query: EvalQuery, mode: SearchMode, k: int) -> Query:
    return Query(
        content=query.content,
        instruction=query.instruction,
        k=k,
        exclude=query.exclude,
        candidates=query.candidates,
        mode=mode,
    )


def _against(hits: Sequence[Hit], relevant: Mapping[str, int], row_of: Mapping[str, int]) -> Ranked:
    """Neighbours of equal score in the order that is worst for the relevant ones."""
    grades = np.array([relevant.get(hit.id, 0) for hit in hits], dtype=np.int64)
    groups = np.cumsum([0, *(one.score != other.score for one, other in pairwise(hits))])[: len(hits)]
    worst = np.lexsort((np.arange(len(hits)), grades, groups))
    best = np.lexsort((np.arange(len(hits)), -grades, groups))
    rows = np.array([row_of[hit.id] for hit in hits], dtype=np.int64)
    return Ranked(rows[worst], bool(np.any(grades[worst] != grades[best])))


def _how(retriever: Retriever, mode: SearchMode) -> str:
    names = [stage.reranker.identity.spec for stage in retriever.stages]
    return f"{mode}, reranked by {' and '.join(names)}" if names else mode


def _warnings(failed: Sequence[Problem], failed_corpus: Sequence[Problem]) -> list[str]:
    found = []
    if failed:
        many = counted(len(failed), "query could not be searched and scores", "queries could not be searched and score")
        found.append(f"{many} zero: {naming([problem.id for problem in failed])}")
    if failed_corpus:
        many = counted(
            len(failed_corpus), "document could not be indexed and is", "documents could not be indexed and are"
        )
        found.append(f"{many} never found: {naming([problem.id for problem in failed_corpus])}")
    return found
