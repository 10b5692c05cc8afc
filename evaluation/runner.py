"""Running an evaluation: encode queries and corpus, rank exactly, measure, and tell what could not be used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from mmseek._types import Document, EncodeRequest
from mmseek.errors import DatasetError, EncodeError, InputError
from mmseek.evaluation import metrics
from mmseek.evaluation.dataset import Dataset, EvalQuery, load_dataset
from mmseek.evaluation.ranking import Pool, Ranked, rank
from mmseek.evaluation.report import EvalReport, GroupResult, Problem, RerankedResult, counted, naming
from mmseek.evaluation.reranking import Rankings, score_candidates

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmseek._types import Encoded, FloatArray
    from mmseek.protocols import Encoder, Reranker

# Called with what is being done ("queries", "corpus", "ranking"), how many are done, and of how many.
Progress: TypeAlias = Callable[[str, int, int], None]

NO_TASK = "(no task)"


def evaluate(
    dataset: Dataset | Path | str,
    encoder: Encoder,
    *,
    split: str | None = None,
    k: int = 100,
    reranker: Reranker | None = None,
    rerank_depth: int = 50,
    on_progress: Progress | None = None,
) -> EvalReport:
    """Measure how well an encoder finds what a dataset calls relevant.

    Every query is ranked against the whole corpus (or its own `candidates`) by exact inner product. The same input
    gives the same numbers. The vectors of the corpus are held in memory: 4 bytes * dim a document.

    Args:
        dataset: a loaded dataset, or its folder.
        encoder: its vectors are taken as they are.
        split: `test` if a folder is given without one; a loaded dataset has its own.
        k: depth of the ranking; metrics that look deeper are left out.
        reranker: orders the first of each ranking anew; the report has both orders.
        rerank_depth: how many it orders.
        on_progress: called after each item.

    Raises:
        DatasetError: as in `load_dataset`, or the corpus grew while it was read.
        EncodeError: no document at all could be encoded, or the encoder breaks its contract (lost items, vectors of
            another length).
        InputError: k is less than 1, or the dataset is loaded with another split.
    """
    if k < 1:
        raise InputError(f"k is the depth of the ranking and must be at least 1, not {k}")
    data = _loaded(dataset, split)
    tell = on_progress or _tell_nobody
    queries = _encode_queries(data.queries, encoder, tell)
    corpus = _encode_corpus(data, encoder, tell)
    if not corpus.ids:
        # The last failure: lines that could not be read come first, and what the encoder refused after them.
        reason = corpus.failed[-1].reason if corpus.failed else "it is empty"
        raise EncodeError(f"no document of {data.path / 'corpus.jsonl'} could be encoded: {reason}")
    found = _rank_all(data, queries, corpus, k, tell)
    evidence = _evidence(data, corpus, found)
    names = [metric for metric in metrics.METRICS if metrics.cutoff(metric) <= k]
    again = None if reranker is None else _reranked(data, corpus, found, evidence, reranker, rerank_depth, names, tell)
    return EvalReport(
        dataset=data.name,
        split=data.split,
        encoder=encoder.identity.spec,
        fingerprint=encoder.identity.fingerprint,
        n_documents=len(corpus.ids),
        overall=evidence.summary(names, np.arange(len(data.queries))),
        by_task={task: evidence.summary(names, rows) for task, rows in _tasks(data.queries).items()},
        warnings=[*data.warnings, *_failure_warnings(data, queries, corpus), *(again.warnings if again else ())],
        skipped_queries=data.skipped,
        failed_queries=queries.failed,
        failed_corpus=corpus.failed,
        reranked=again,
    )


def _reranked(
    data: Dataset,
    corpus: Encodings,
    found: dict[str, Ranked],
    before: _Evidence,
    reranker: Reranker,
    depth: int,
    names: Sequence[str],
    tell: Progress,
) -> RerankedResult:
    """The same metrics in the reranker's order, and how much each query gains."""
    judged = score_candidates(
        data, corpus.ids, {name: each.rows for name, each in found.items()}, reranker, depth, tell
    )
    after = _evidence(
        data,
        corpus,
        {name: Ranked(judged[name].order(ranked.rows), ranked.tied) for name, ranked in found.items()},
    )
    everything = np.arange(len(data.queries))
    columns = [metrics.METRICS.index(name) for name in names]
    gain = (after.values - before.values)[:, columns]
    low, high = metrics.bootstrap(gain)
    unscored = sum(each.unscored for each in judged.values())
    return RerankedResult(
        reranker=reranker.identity.spec,
        fingerprint=reranker.identity.fingerprint,
        depth=depth,
        overall=after.summary(names, everything),
        by_task={task: after.summary(names, rows) for task, rows in _tasks(data.queries).items()},
        gain=dict(zip(names, zip(gain.mean(axis=0).tolist(), low.tolist(), high.tolist(), strict=True), strict=True)),
        warnings=[f"{counted(unscored, 'pair')} could not be scored and came last"] if unscored else [],
    )


def rank_by(dataset: Dataset, encoder: Encoder, depth: int, on_progress: Progress | None = None) -> Rankings:
    """The ids of the corpus, and the first rows of every query's ranking, for what is made of rankings.

    Raises:
        EncodeError: no document could be encoded.
    """
    tell = on_progress or _tell_nobody
    queries, corpus = _encode_queries(dataset.queries, encoder, tell), _encode_corpus(dataset, encoder, tell)
    if not corpus.ids:
        raise EncodeError(f"no document of {dataset.path / 'corpus.jsonl'} could be encoded")
    found = _rank_all(dataset, queries, corpus, depth, tell)
    return Rankings(corpus.ids, {name: ranked.rows for name, ranked in found.items()})


def _loaded(dataset: Dataset | Path | str, split: str | None) -> Dataset:
    if not isinstance(dataset, Dataset):
        return load_dataset(dataset, split or "test")
    if split not in (None, dataset.split):
        raise InputError(f"the dataset {dataset.name} is loaded with the split {dataset.split!r}, not {split!r}")
    return dataset


def _tell_nobody(_stage: str, _done: int, _total: int) -> None:
    return


@dataclass(slots=True)
class Encodings:
    """Vectors (n, dim) of what could be encoded, under their ids in order, and what could not."""

    ids: list[str]
    vectors: FloatArray
    failed: list[Problem] = field(default_factory=list)


def _encode_queries(queries: Sequence[EvalQuery], encoder: Encoder, tell: Progress) -> Encodings:
    requests = ((query.id, EncodeRequest(query.content, "query", query.instruction)) for query in queries)
    return _encode(requests, encoder, len(queries), "queries", tell, [])


def _encode_corpus(data: Dataset, encoder: Encoder, tell: Progress) -> Encodings:
    unreadable: list[Problem] = []

    def requests() -> Iterator[tuple[str, EncodeRequest]]:
        for document in data.corpus():
            if isinstance(document, Document):
                yield document.id, EncodeRequest(document.content)
            else:
                unreadable.append(Problem(document.item_id, str(document)))

    return _encode(requests(), encoder, data.n_documents, "corpus", tell, unreadable)


def _encode(
    requests: Iterable[tuple[str, EncodeRequest]],
    encoder: Encoder,
    total: int,
    stage: str,
    tell: Progress,
    unreadable: list[Problem],
) -> Encodings:
    """Stream through the encoder; `unreadable` is filled by `requests` while it runs and comes first in `failed`."""
    dim = encoder.identity.dim
    vectors = np.empty((total, dim), dtype=np.float32)
    waiting: deque[str] = deque()
    ids: list[str] = []
    failed: list[Problem] = []

    def passed_on() -> Iterator[EncodeRequest]:
        for item_id, request in requests:
            waiting.append(item_id)
            yield request

    for outcome in encoder.stream(passed_on()):
        if not waiting:
            raise EncodeError(f"encoder {encoder.identity.spec} gave more vectors than there are items in the {stage}")
        if len(ids) == total:
            raise DatasetError(f"the {stage} grew while it was read: evaluate again when nobody writes to it")
        item_id = waiting.popleft()
        vector = _usable(outcome, dim, encoder.identity.spec)
        if isinstance(vector, str):
            failed.append(Problem(item_id, vector))
        else:
            vectors[len(ids)] = vector
            ids.append(item_id)
        tell(stage, len(ids) + len(failed) + len(unreadable), total)
    if waiting:
        raise EncodeError(f"encoder {encoder.identity.spec} gave no outcome for {len(waiting)} items of the {stage}")
    return Encodings(ids, vectors[: len(ids)], [*unreadable, *failed])


def _usable(outcome: Encoded, dim: int, spec: str) -> FloatArray | str:
    """The vector, or the reason why there is none."""
    if outcome.vector is None:
        return str(outcome.error) if outcome.error is not None else "the encoder gave neither a vector nor an error"
    if outcome.vector.shape != (dim,):
        raise EncodeError(f"encoder {spec} gave a vector of shape {outcome.vector.shape} where ({dim},) was promised")
    if not np.isfinite(outcome.vector).all():
        return "the encoder gave a vector that is not finite"
    return outcome.vector


@dataclass(frozen=True, slots=True)
class _Evidence:
    """What the metrics are made of, one entry a query. `values` and `chances` are (n_queries, len(METRICS))."""

    values: NDArray[np.float64]
    chances: NDArray[np.float64]
    tied: NDArray[np.bool_]

    def summary(self, names: Sequence[str], rows: NDArray[np.int64]) -> GroupResult:
        """The means over some queries, for the metrics of these names."""
        columns = np.array([metrics.METRICS.index(name) for name in names], dtype=np.int64)
        values = self.values[np.ix_(rows, columns)]
        means = values.mean(axis=0)
        low, high = metrics.bootstrap(values)
        expected = self.chances[np.ix_(rows, columns)].mean(axis=0)
        return GroupResult(
            n_queries=len(rows),
            metrics=dict(zip(names, means.tolist(), strict=True)),
            confidence=dict(zip(names, zip(low.tolist(), high.tolist(), strict=True), strict=True)),
            chance=dict(zip(names, expected.tolist(), strict=True)),
            tie_rate=float(self.tied[rows].mean()),
        )


def _rank_all(data: Dataset, queries: Encodings, corpus: Encodings, k: int, tell: Progress) -> dict[str, Ranked]:
    """The ranking of every query that could be encoded, by its id."""
    row_of = {document_id: row for row, document_id in enumerate(corpus.ids)}
    pools = {query.id: _pool(query, data, row_of) for query in data.queries}
    found: dict[str, Ranked] = {}
    ranking = rank(queries.vectors, corpus.vectors, [pools[query_id] for query_id in queries.ids], k)
    for query_id, ranked in zip(queries.ids, ranking, strict=True):
        found[query_id] = ranked
        tell("ranking", len(found), len(queries.ids))
    return found


def _evidence(data: Dataset, corpus: Encodings, found: dict[str, Ranked]) -> _Evidence:
    """What the metrics are made of; a query without a ranking has found nothing."""
    row_of = {document_id: row for row, document_id in enumerate(corpus.ids)}
    nothing = Ranked(np.empty(0, dtype=np.int64), tied=False)
    runs = [found.get(query.id, nothing) for query in data.queries]
    judged = [_judged(query.id, data, row_of) for query in data.queries]
    pools = [_pool(query, data, row_of) for query in data.queries]
    grades = [grade for _, grade in judged]
    present = [(rows >= 0) & pool.holds(rows) for (rows, _), pool in zip(judged, pools, strict=True)]
    return _Evidence(
        values=metrics.per_query([rows for rows, _ in judged], grades, [run.rows for run in runs]),
        chances=metrics.chance(grades, present, [pool.count(len(corpus.ids)) for pool in pools]),
        tied=np.array([run.tied for run in runs]),
    )


def _judged(query_id: str, data: Dataset, row_of: dict[str, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and grades of all relevant documents; those that are not in the corpus get rows below zero."""
    row = data.qrels[query_id]
    rows = [row_of.get(document_id, -1 - place) for place, document_id in enumerate(row)]
    return np.array(rows, dtype=np.int64), np.array(list(row.values()), dtype=np.int64)


def _pool(query: EvalQuery, data: Dataset, row_of: dict[str, int]) -> Pool:
    rows, grades = _judged(query.id, data, row_of)
    return Pool(
        relevant=rows[rows >= 0],
        grades=grades[rows >= 0],
        excluded=_rows(query.exclude, row_of),
        candidates=None if query.candidates is None else _rows(query.candidates, row_of),
    )


def _rows(ids: Iterable[str], row_of: dict[str, int]) -> NDArray[np.int64]:
    return np.array(sorted(row_of[item_id] for item_id in ids if item_id in row_of), dtype=np.int64)


def _tasks(queries: Sequence[EvalQuery]) -> dict[str, NDArray[np.int64]]:
    """Rows of the queries of each task; none at all if no query names a task."""
    if all(query.task is None for query in queries):
        return {}
    groups: dict[str, list[int]] = {}
    for row, query in enumerate(queries):
        groups.setdefault(NO_TASK if query.task is None else query.task, []).append(row)
    return {task: np.array(groups[task], dtype=np.int64) for task in sorted(groups)}


def _failure_warnings(data: Dataset, queries: Encodings, corpus: Encodings) -> Iterator[str]:
    if queries.failed:
        many = counted(
            len(queries.failed), "query could not be encoded and scores", "queries could not be encoded and score"
        )
        yield f"{many} zero: {naming([problem.id for problem in queries.failed])}"
    if corpus.failed:
        lost = {problem.id for problem in corpus.failed}.difference(corpus.ids)
        wanted = sum(1 for row in data.qrels.values() if not lost.isdisjoint(row))
        many = counted(len(corpus.failed), "document could not be used and is", "documents could not be used and are")
        names = naming([problem.id for problem in corpus.failed])
        yield f"{many} never found, relevant to {counted(wanted, 'query', 'queries')}: {names}"
