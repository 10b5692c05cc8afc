"""From rankings to figures: metrics of each query, and their means with what chance would score."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from mmseek.evaluation import metrics
from mmseek.evaluation.ranking import Pool, Ranked
from mmseek.evaluation.report import GroupResult, PerQuery

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmseek.evaluation.dataset import Dataset, EvalQuery

__all__ = ["CURVE", "NO_TASK", "Evidence", "Pools", "gather", "task_rows"]

NO_TASK: Final = "(no task)"
CURVE: Final = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100)
"""The depths at which recall is drawn."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the metrics are made of, one entry a query.

    `values` and `chances` are (n_queries, len(METRICS)), `recall` is (n_queries, len(CURVE)).
    """

    values: NDArray[np.float64]
    chances: NDArray[np.float64]
    tied: NDArray[np.bool_]
    recall: NDArray[np.float64]

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
            curve=dict(zip(CURVE, self.recall[rows].mean(axis=0).tolist(), strict=True)),
        )

    def per_query(self, queries: Sequence[EvalQuery], names: Sequence[str]) -> PerQuery:
        """The metrics of each query by themselves."""
        columns = [metrics.METRICS.index(name) for name in names]
        return PerQuery(
            ids=tuple(query.id for query in queries),
            tasks=tuple(query.task for query in queries),
            values={name: tuple(self.values[:, at].tolist()) for name, at in zip(names, columns, strict=True)},
        )


def gather(data: Dataset, ids: Sequence[str], found: Mapping[str, Ranked]) -> Evidence:
    """What the metrics are made of; a query without a ranking has found nothing."""
    pooling = Pools(data, ids)
    nothing = Ranked(np.empty(0, dtype=np.int64), tied=False)
    runs = [found.get(query.id, nothing) for query in data.queries]
    judged = [pooling.judged(query.id) for query in data.queries]
    pools = [pooling.of(query) for query in data.queries]
    grades = [grade for _, grade in judged]
    present = [(rows >= 0) & pool.holds(rows) for (rows, _), pool in zip(judged, pools, strict=True)]
    return Evidence(
        values=metrics.per_query([rows for rows, _ in judged], grades, [run.rows for run in runs]),
        chances=metrics.chance(grades, present, [pool.count(len(ids)) for pool in pools]),
        tied=np.array([run.tied for run in runs]),
        recall=np.array([_recalls(rows, run.rows) for (rows, _), run in zip(judged, runs, strict=True)]),
    )


def _recalls(relevant: NDArray[np.int64], ranked: NDArray[np.int64]) -> NDArray[np.float64]:
    found = np.cumsum(np.isin(ranked[: CURVE[-1]], relevant))
    return np.array([found[min(depth, len(found)) - 1] if len(found) else 0 for depth in CURVE]) / len(relevant)


class Pools:
    """What each query of a dataset ranks, in rows of its corpus. A list that queries share is looked up once.

    Args:
        data: the dataset.
        ids: of the corpus, by row.
    """

    def __init__(self, data: Dataset, ids: Sequence[str]) -> None:
        self._data = data
        self._row_of = {document_id: row for row, document_id in enumerate(ids)}
        self._lists: dict[int, NDArray[np.int64]] = {}

    def of(self, query: EvalQuery) -> Pool:
        """The pool of one query."""
        rows, grades = self.judged(query.id)
        if query.candidates is not None and id(query.candidates) not in self._lists:
            self._lists[id(query.candidates)] = self._rows(query.candidates)
        return Pool(
            relevant=rows[rows >= 0],
            grades=grades[rows >= 0],
            excluded=self._rows(query.exclude),
            candidates=None if query.candidates is None else self._lists[id(query.candidates)],
        )

    def judged(self, query_id: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows and grades of all relevant documents; those that are not in the corpus get rows below zero."""
        row = self._data.qrels[query_id]
        rows = [self._row_of.get(document_id, -1 - place) for place, document_id in enumerate(row)]
        return np.array(rows, dtype=np.int64), np.array(list(row.values()), dtype=np.int64)

    def _rows(self, ids: Iterable[str]) -> NDArray[np.int64]:
        return np.array(sorted(self._row_of[each] for each in ids if each in self._row_of), dtype=np.int64)


def task_rows(queries: Sequence[EvalQuery]) -> dict[str, NDArray[np.int64]]:
    """Rows of the queries of each task; none at all if no query names a task."""
    if all(query.task is None for query in queries):
        return {}
    groups: dict[str, list[int]] = {}
    for row, query in enumerate(queries):
        groups.setdefault(NO_TASK if query.task is None else query.task, []).append(row)
    return {task: np.array(groups[task], dtype=np.int64) for task in sorted(groups)}
