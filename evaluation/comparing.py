"""Comparing two evaluations of the same queries: differences, how sure they are, and whether chance explains them.

The test is Fisher's randomisation test: under the null hypothesis each query's difference could as well have the other
sign (Smucker et al. 2007, "A Comparison of Statistical Significance Tests for Information Retrieval Evaluation").
p values over several metrics are corrected by Holm's method.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from mmseek.errors import DatasetError, InputError
from mmseek.evaluation.metrics import bootstrap
from mmseek.evaluation.report import EvalReport, PerQuery, counted

__all__ = ["Comparison", "Difference", "Side", "compare", "read_side"]

LEVEL: Final = 0.05
_RESAMPLES: Final = 9999
_SEED: Final = 0


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: what it is called, on what it was measured, its headline metrics, and each query's metrics."""

    name: str
    dataset: str
    split: str
    headline: str
    queries: PerQuery

    @classmethod
    def of(cls, report: EvalReport) -> Side:
        """From an evaluation that has just been made.

        Raises:
            InputError: the report does not have each query's metrics.
        """
        if report.per_query is None:
            raise InputError("the evaluation has no metrics of each query, so it cannot be compared")
        return cls(report.system, report.dataset, report.split, report.headline, report.per_query)


def read_side(path: Path) -> Side:
    """From the JSON document that `mmseek eval --output` writes.

    Raises:
        InputError: the file cannot be read or is something else.
    """
    try:
        found = json.loads(path.read_bytes())
        queries = found["per_query"]
        name = found["encoder"] + (f", {found['searched']}" if found.get("searched") else "")
        side = Side(
            name,
            found["dataset"],
            found["split"],
            found.get("headline", "ndcg@10"),
            PerQuery(
                tuple(queries["ids"]),
                tuple(queries["tasks"]),
                {metric: tuple(map(float, values)) for metric, values in queries["values"].items()},
            ),
        )
        lengths = {len(side.queries.ids), len(side.queries.tasks), *map(len, side.queries.values.values())}
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check the path") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is not a report with each query's metrics: write it with mmseek eval --output"
        ) from error
    if len(lengths) != 1:
        raise InputError(f"{path} is damaged: it has not one value of each metric for each query")
    return side


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric of both, and what lies between.

    Args:
        first, second: the means.
        gain: second less first; low and high are its 95 % bootstrap interval over queries.
        p: of the two-sided randomisation test.
        p_holm: corrected for the number of metrics in this group.
    """

    first: float
    second: float
    gain: float
    low: float
    high: float
    p: float
    p_holm: float

    @property
    def significant(self) -> bool:
        """Whether the corrected p is below 0.05."""
        return self.p_holm < LEVEL

    def to_json(self) -> dict[str, Any]:
        """The fields under their names, and `significant`."""
        return {
            "a": self.first,
            "b": self.second,
            "gain": [self.gain, self.low, self.high],
            "p": self.p,
            "p_holm": self.p_holm,
            "significant": self.significant,
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two evaluations, the second measured against the first.

    Args:
        first, second: what they are called.
        dataset, split: what both were measured on.
        headline: the metric that the benchmark is compared by.
        n_queries: how many queries both have.
        overall: by metric.
        by_task: by task and metric; empty if no query names a task.
        wins: queries that the second does better, does worse and does alike, by the headline.
        warnings: one sentence for each kind of thing that is odd.
    """

    first: str
    second: str
    dataset: str
    split: str
    headline: str
    n_queries: int
    overall: Mapping[str, Difference]
    by_task: Mapping[str, Mapping[str, Difference]]
    wins: tuple[int, int, int]
    warnings: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """One JSON object, as `mmseek eval --compare --json` prints it."""
        return {
            "a": self.first,
            "b": self.second,
            "dataset": self.dataset,
            "split": self.split,
            "headline": self.headline,
            "n_queries": self.n_queries,
            "metrics": {name: each.to_json() for name, each in self.overall.items()},
            "by_task": {
                task: {name: each.to_json() for name, each in group.items()} for task, group in self.by_task.items()
            },
            "queries": dict(zip(("better", "worse", "alike"), self.wins, strict=True)),
            "warnings": list(self.warnings),
        }


def compare(first: Side, second: Side) -> Comparison:
    """Compare query by query; queries that only one of them has are counted and left out.

    Raises:
        DatasetError: they were measured on different datasets or splits, or have no query or no metric in common.
    """
    if (first.dataset, first.split) != (second.dataset, second.split):
        raise DatasetError(
            f"the two were measured on {first.dataset} ({first.split}) and {second.dataset} ({second.split}): "
            "only the same queries can be compared"
        )
    row_of = {query_id: row for row, query_id in enumerate(second.queries.ids)}
    pairs = [(row, row_of[name]) for row, name in enumerate(first.queries.ids) if name in row_of]
    names = [name for name in first.queries.values if name in second.queries.values]
    if not pairs or not names:
        raise DatasetError("the two have no query or no metric in common: evaluate both with this version")
    left, right = np.array(pairs).T
    before = np.array([first.queries.values[name] for name in names])[:, left]
    after = np.array([second.queries.values[name] for name in names])[:, right]
    tasks = [first.queries.tasks[row] for row in left]
    lone = len(first.queries.ids) + len(second.queries.ids) - 2 * len(pairs)
    headline = first.headline if first.headline in names else names[0]
    change = np.sign((after - before)[names.index(headline)].round(9))
    return Comparison(
        first=first.name,
        second=second.name,
        dataset=first.dataset,
        split=first.split,
        headline=headline,
        n_queries=len(pairs),
        overall=_differences(names, before, after),
        by_task={
            task: _differences(names, before[:, rows], after[:, rows])
            for task in sorted({each for each in tasks if each is not None})
            for rows in [np.array([each == task for each in tasks])]
        },
        wins=(int((change > 0).sum()), int((change < 0).sum()), int((change == 0).sum())),
        warnings=[f"{counted(lone, 'query', 'queries')} of only one of the two left out"] if lone else [],
    )


def _differences(names: Sequence[str], before: Any, after: Any) -> dict[str, Difference]:
    """By metric; both arrays are (n_metrics, n_queries)."""
    change = after - before
    low, high = bootstrap(change.T)
    p = _randomised(change)
    corrected = _holm(p)
    return {
        name: Difference(
            float(before[row].mean()),
            float(after[row].mean()),
            float(change[row].mean()),
            float(low[row]),
            float(high[row]),
            float(p[row]),
            float(corrected[row]),
        )
        for row, name in enumerate(names)
    }


def _randomised(change: Any) -> Any:
    if change.shape[-1] < 2:  # one query says nothing of chance
        return np.ones(len(change))
    from scipy.stats import permutation_test

    def mean(sample: Any, axis: int = -1) -> Any:
        return np.mean(sample, axis=axis)

    found = permutation_test(
        (change,),
        mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=_RESAMPLES,
        batch=max(1, 2**22 // max(change.size, 1)),
        axis=-1,
        rng=np.random.default_rng(_SEED),
    )
    # No difference at all has only one arrangement, whatever the sums of zeros round to.
    return np.where(np.all(change == 0, axis=-1), 1.0, np.minimum(found.pvalue, 1.0))


def _holm(p: Any) -> Any:
    order = np.argsort(p, kind="stable")
    raised = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    corrected = np.empty_like(raised)
    corrected[order] = np.minimum(raised, 1.0)
    return corrected
