"""Which kind of index, searched how: the cheapest that finds what is asked, measured with queries like those to come.

Encoders put texts and pictures into different corners of their space, and an index that finds a picture from a picture
may miss it from a text. So recall is measured with sample query vectors where there are some, and it is said where
there are none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmseek.errors import InputError
from mmseek.index.ann import gpu
from mmseek.index.ann.files import Settings
from mmseek.index.ann.layered import Base, LayeredIndex
from mmseek.index.ann.plan import Plan, kinds_to_try, plan_for, settings_of
from mmseek.index.ann.proposer import Proposer, build, sample_size
from mmseek.index.ann.sources import VectorSource, in_pieces

if TYPE_CHECKING:
    from mmseek._types import FloatArray
    from mmseek.protocols import RowArray

K = 10  # recall is of the ten best
MOST_QUERIES = 256
_TOLERANCE = 1e-6

Told = Callable[[str], None]
Check = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Tuned:
    """A proposer, how it is searched, and the recall@10 that this has; `recall` is None where nothing was measured."""

    plan: Plan
    proposer: Proposer
    recall: float | None


@dataclass(frozen=True, slots=True)
class Trial:
    """What an index is tuned on.

    Args:
        dim: columns of a vector.
        rows: row numbers (n,), ascending.
        source: their vectors.
        living: positions of those that may be found.
        queries: sample queries (m, dim).
        truth: for each query the score of its tenth best row (m,).
    """

    dim: int
    rows: RowArray
    source: VectorSource
    living: RowArray
    queries: FloatArray
    truth: FloatArray


def make_trial(dim: int, rows: RowArray, source: VectorSource, queries: FloatArray, living: RowArray) -> Trial:
    """Look for the true ten best of at most `MOST_QUERIES` queries, by scoring everything."""
    queries = np.ascontiguousarray(queries[:MOST_QUERIES], dtype=np.float32)
    best = np.full((len(queries), K), -np.inf, dtype=np.float32)
    for vectors in in_pieces(source, living):
        both = np.concatenate([best, queries @ vectors.T], axis=1)
        best = np.partition(both, both.shape[1] - K, axis=1)[:, -K:]
    return Trial(dim, rows, source, living, queries, best.min(axis=1))


def measure(trial: Trial, proposer: Proposer, plan: Plan) -> float | None:
    """Recall@10: the share of hits that score as well as the true tenth best. None without queries or rows."""
    if not len(trial.queries) or not len(trial.living):
        return None
    index = LayeredIndex(trial.dim, Base(trial.rows, proposer, trial.source, plan), few=0)
    if len(trial.living) < len(trial.rows):
        index.remove(np.delete(trial.rows, trial.living))
    found = index.search(trial.queries, min(K, len(trial.living)))[1]
    return float(np.mean(found >= trial.truth[:, None] - _TOLERANCE))


def cheapest(trial: Trial, proposer: Proposer, plan: Plan, target: float, check: Check = lambda: None) -> Tuned:
    """The first of a layout's settings that reaches the target, or the last one with what it reaches."""
    if measure(trial, proposer, plan) is None:
        return Tuned(plan, proposer, None)
    best = Tuned(plan, proposer, 0.0)
    for candidate in settings_of(plan):
        check()
        found = measure(trial, proposer, candidate) or 0.0
        if found > (best.recall or 0.0):
            best = Tuned(candidate, proposer, found)
        if found >= target:
            break
    return best


def tune(settings: Settings, trial: Trial, tell: Told = lambda _: None, check: Check = lambda: None) -> Tuned:
    """Build what the settings ask for, which is not an exact search, and tune it to their recall."""
    best: Tuned | None = None
    for kind in kinds_to_try(settings.kind, settings.memory, trial.dim, len(trial.living)):
        made = _tune_kind(kind, settings.recall, trial, tell, check)
        if best is None or (made.recall or 0.0) > (best.recall or 0.0):
            best = made
        if made.recall is None or made.recall >= settings.recall:
            break
        tell(f"{kind} reaches {made.recall:.3f} of the {settings.recall:g} that is wanted")
    if best is None:
        raise InputError("there is nothing to build an index of")
    return best


def _tune_kind(kind: str, target: float, trial: Trial, tell: Told, check: Check) -> Tuned:
    total = len(trial.rows)
    plan = plan_for(kind, trial.dim, total)
    tell(f"building {plan.kind} over {total:,} vectors")
    proposer: Proposer | None = gpu.build(plan, trial.dim, trial.source, total)
    if proposer is None:
        chosen = np.random.default_rng(0).permutation(total)[: sample_size(plan, trial.dim, total)]
        pieces = in_pieces(trial.source, np.arange(total))
        proposer = build(plan, trial.dim, trial.source.take(np.sort(chosen)), pieces, lambda _: check())
    return cheapest(trial, proposer, plan, target, check)
