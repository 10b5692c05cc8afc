"""Metrics of a ranking: nDCG, recall, hit and MRR through `ranx`, what chance would score, and how sure a mean is.

`recall@k` is the share of the relevant documents among the first k; `hit@k` is 1 if there is any (some benchmarks print
hit@k under the name of recall@k). `ndcg@k` takes the grade itself as gain (Järvelin and Kekäläinen 2002).
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable

    FloatRows: TypeAlias = NDArray[np.float64]
    Rows: TypeAlias = NDArray[np.int64]

METRICS = (
    "ndcg@5",
    "ndcg@10",
    "recall@1",
    "recall@5",
    "recall@10",
    "recall@100",
    "hit@1",
    "hit@5",
    "hit@10",
    "mrr@10",
)
RESAMPLES = 1000
SEED = 0
_RESAMPLES_AT_ONCE = 100  # bounds the memory: this many rows of n_queries numbers

# numba's default threading layer aborts the process when two threads enter it at once.
_ranx_lock = threading.Lock()


def cutoff(metric: str) -> int:
    """How deep a ranking the metric looks at: 10 for `ndcg@10`."""
    return int(metric.partition("@")[2])


def per_query(
    relevant: Sequence[Rows], grades: Sequence[Rows], ranked: Sequence[Rows], metrics: Sequence[str] = METRICS
) -> FloatRows:
    """Each metric of each query, in [0, 1].

    Documents are known by numbers. The order of `ranked` is final: no scores are seen here, so no library can break
    ties its own way.

    Args:
        relevant: for each query the numbers of all its relevant documents, at least one.
        grades: for each query the grades of these documents, at least 1.
        ranked: for each query the numbers of the documents found, best first; may be empty.
        metrics: names among `METRICS`, with any cutoff.

    Returns:
        Shape (n_queries, n_metrics).
    """
    if not relevant:
        return np.zeros((0, len(metrics)))
    qrels = [_by_grade(rows, gains) for rows, gains in zip(relevant, grades, strict=True)]
    runs = [np.column_stack((rows, np.arange(len(rows), 0, -1))).astype(np.float64) for rows in ranked]
    names = [metric.replace("hit@", "hit_rate@") for metric in metrics]
    scores = _ranx_scores(qrels, runs, names)
    return np.column_stack([scores[name] for name in names])


def _by_grade(rows: Rows, gains: Rows) -> FloatRows:
    # ranx takes the order of the judgements for the ideal ranking.
    return np.column_stack((rows, gains))[np.argsort(-gains, kind="stable")].astype(np.float64)


def _ranx_scores(qrels: list[FloatRows], runs: list[FloatRows], names: list[str]) -> dict[str, FloatRows]:
    # ranx's own Qrels and Run would hash our ids into floats and compile three times as much: minutes, at first use.
    with _ranx_lock, warnings.catch_warnings():
        import ranx  # here, because it takes seconds and brings a compiler
        from numba.core.errors import NumbaTypeSafetyWarning
        from numba.typed import List as TypedList

        warnings.simplefilter("ignore", NumbaTypeSafetyWarning)  # ranx's loop counters; seen when it compiles
        # A single name would make ranx 0.3 fail on its way out (it looks the result up under another name).
        asked = names if len(names) > 1 else names * 2
        found: dict[str, Any] = ranx.evaluate(TypedList(qrels), TypedList(runs), asked, return_mean=False)
        return {name: np.asarray(found[name], dtype=np.float64) for name in names}


def chance(grades: Sequence[Rows], in_pool: Sequence[NDArray[np.bool_]], pool_sizes: Sequence[int]) -> FloatRows:
    """What each of `METRICS` is expected to be, for each query, when its pool is put in random order.

    Args:
        grades: for each query the grades of its relevant documents.
        in_pool: for each of these documents, whether it can be ranked at all.
        pool_sizes: for each query how many documents are ranked.

    Returns:
        Shape (n_queries, len(METRICS)).
    """
    table = np.zeros((len(grades), len(METRICS)))
    for row, (gains, present, size) in enumerate(zip(grades, in_pool, pool_sizes, strict=True)):
        for column, metric in enumerate(METRICS):
            name, _, depth = metric.partition("@")
            table[row, column] = _EXPECTED[name](gains, gains[present], size, int(depth))
    return table


def _expected_ndcg(gains: Rows, present: Rows, size: int, depth: int) -> float:
    # Any place of a random order holds the mean gain of the pool.
    if not size:
        return 0.0
    ideal = np.sort(gains)[::-1][:depth]
    best = float(np.sum(ideal * _discounts(len(ideal))))
    return float(present.sum() / size * _discounts(min(depth, size)).sum() / best)


def _expected_recall(gains: Rows, present: Rows, size: int, depth: int) -> float:
    return 0.0 if not size else len(present) / len(gains) * min(depth, size) / size


def _expected_hit(_gains: Rows, present: Rows, size: int, depth: int) -> float:
    return float(1.0 - _all_missed(len(present), size, depth)[-1])


def _expected_mrr(_gains: Rows, present: Rows, size: int, depth: int) -> float:
    missed = _all_missed(len(present), size, depth)
    first_here = missed[:-1] - missed[1:]
    return float(np.sum(first_here / np.arange(1, len(first_here) + 1)))


def _all_missed(relevant: int, size: int, depth: int) -> FloatRows:
    """Probability that the first 0, 1, ... places of a random order hold no relevant document."""
    places = np.arange(min(depth, size))
    return np.concatenate(([1.0], np.cumprod(np.maximum(size - relevant - places, 0) / (size - places))))


def _discounts(depth: int) -> FloatRows:
    return 1.0 / np.log2(np.arange(2, depth + 2))


_EXPECTED: dict[str, Callable[[Rows, Rows, int, int], float]] = {
    "ndcg": _expected_ndcg,
    "recall": _expected_recall,
    "hit": _expected_hit,
    "mrr": _expected_mrr,
}


def bootstrap(values: FloatRows, *, resamples: int = RESAMPLES, seed: int = SEED) -> FloatRows:
    """95 % percentile interval of each column's mean, over resampled rows (Efron 1979).

    Args:
        values: shape (n_queries, n_metrics), at least one row.
        resamples: how many draws of n_queries rows with replacement.
        seed: of the draws; the same values give the same interval.

    Returns:
        Shape (2, n_metrics): low and high.
    """
    rows = len(values)
    random = np.random.default_rng(seed)
    means = []
    for start in range(0, resamples, _RESAMPLES_AT_ONCE):
        draws = min(_RESAMPLES_AT_ONCE, resamples - start)
        times = random.multinomial(rows, np.full(rows, 1.0 / rows), size=draws)
        means.append(times @ values / rows)
    return np.quantile(np.concatenate(means), (0.025, 0.975), axis=0)
