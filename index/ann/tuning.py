"""Which kind of index, searched how: the cheapest that finds what is asked, measured with queries like those to come.

Encoders put texts and pictures into different corners of their space, and an index that finds a picture from a picture
may miss it from a text. So recall is measured with sample query vectors where there are some, and it is said where
there are none.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mmseek.errors import InputError
from mmseek.index.ann import gpu, whole_bytes
from mmseek.index.ann.files import Settings
from mmseek.index.ann.layered import Base, LayeredIndex
from mmseek.index.ann.plan import Plan, kinds_to_try, plan_for, settings_of
from mmseek.index.ann.proposer import Proposer, build, sample_size
from mmseek.index.ann.sources import ArraySource, VectorSource, in_pieces

if TYPE_CHECKING:
    from mmseek._types import FloatArray
    from mmseek.protocols import RowArray

K = 10  # recall is of the ten best
MOST_QUERIES = 256
_TOLERANCE = 1e-6
_ENOUGH = 3  # settings that reach the target, of which the quickest is taken
_PILOT = 20_000  # rows on which kinds are compared

Told = Callable[[str], None]
Check = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Tuned:
    """A proposer, how it is searched, its recall@10, None if it was not measured, and the time of a search."""

    plan: Plan
    proposer: Proposer
    recall: float | None
    milliseconds: float


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
        shortest: length of the shortest vector.
        longest: length of the longest.
    """

    dim: int
    rows: RowArray
    source: VectorSource
    living: RowArray
    queries: FloatArray
    truth: FloatArray
    shortest: float
    longest: float


def make_trial(dim: int, rows: RowArray, source: VectorSource, queries: FloatArray, living: RowArray) -> Trial:
    """Look for the true ten best of at most `MOST_QUERIES` queries, by scoring everything."""
    queries = np.ascontiguousarray(queries[:MOST_QUERIES], dtype=np.float32)
    best = np.full((len(queries), K), -np.inf, dtype=np.float32)
    shortest, longest = np.inf, 0.0
    for vectors in in_pieces(source, living):
        lengths = np.einsum("ij,ij->i", vectors, vectors)
        shortest, longest = min(shortest, float(lengths.min())), max(longest, float(lengths.max()))
        both = np.concatenate([best, queries @ vectors.T], axis=1)
        best = np.partition(both, both.shape[1] - K, axis=1)[:, -K:]
    return Trial(dim, rows, source, living, queries, best.min(axis=1), *np.sqrt([shortest, longest]).tolist())


def measure(trial: Trial, proposer: Proposer, plan: Plan) -> tuple[float, float] | None:
    """Recall@10, the share of hits that score as well as the true tenth best, and the milliseconds of a search.

    Queries are asked one at a time, as they will be. None without queries or rows.
    """
    if not len(trial.queries) or not len(trial.living):
        return None
    index = LayeredIndex(trial.dim, Base(trial.rows, proposer, trial.source, plan, trial.longest), few=0)
    if len(trial.living) < len(trial.rows):
        index.remove(np.delete(trial.rows, trial.living))
    wanted = min(K, len(trial.living))
    began = time.perf_counter()
    found = np.concatenate([index.search(query[None], wanted)[1] for query in trial.queries])
    spent = (time.perf_counter() - began) / len(found) * 1000
    return float(np.mean(found >= trial.truth[:, None] - _TOLERANCE)), spent


def cheapest(trial: Trial, proposer: Proposer, plan: Plan, target: float, check: Check = lambda: None) -> Tuned:
    """The quickest of a layout's settings that reach the target, or the one that comes closest to it.

    Settings are tried as their costs rise, until a few that reach it are known.
    """
    best = Tuned(plan, proposer, None, 0.0)
    reached = 0
    for candidate in settings_of(plan):
        check()
        measured = measure(trial, proposer, candidate)
        if measured is None:
            break
        tried = Tuned(candidate, proposer, *measured)
        best = tried if _is_better(tried, best, target) else best
        reached += measured[0] >= target
        if reached == _ENOUGH:
            break
    return best


def _is_better(one: Tuned, other: Tuned, target: float) -> bool:
    if other.recall is None or one.recall is None:
        return other.recall is None
    if min(one.recall, other.recall) >= target:
        return one.milliseconds < other.milliseconds
    return one.recall > other.recall


def tune(settings: Settings, trial: Trial, tell: Told = lambda _: None, check: Check = lambda: None) -> Tuned:
    """Build what the settings ask for, which is not an exact search, and tune it to their recall."""
    kinds = kinds_to_try(settings.kind, settings.memory, trial.dim, len(trial.living))
    if len(kinds) > 1:
        kinds = _by_promise(kinds, settings.recall, trial, tell, check)
    best: Tuned | None = None
    for kind in kinds:
        made = _tune_kind(kind, settings.recall, trial, tell, check)
        if best is None or _is_better(made, best, settings.recall):
            best = made
        if made.recall is None or made.recall >= settings.recall:
            break
        tell(f"{kind} reaches {made.recall:.3f} of the {settings.recall:g} that is wanted")
    if best is None:
        raise InputError("there is nothing to build an index of")
    return best


def _by_promise(kinds: list[str], target: float, trial: Trial, tell: Told, check: Check) -> list[str]:
    """The kinds, the one first that should be quickest: tried on some of the rows, and reckoned up to all of them."""
    some = np.sort(np.random.default_rng(2).permutation(len(trial.living))[:_PILOT])
    rows, vectors = trial.rows[trial.living[some]], trial.source.take(trial.living[some])
    pilot = make_trial(trial.dim, rows, ArraySource(vectors), trial.queries, np.arange(len(rows)))
    growth = len(trial.living) / len(rows)
    promise: list[tuple[bool, float, str]] = []
    for kind in kinds:
        made = _tune_kind(kind, target, pilot, lambda _: None, check)
        # A graph is walked in steps that grow with the logarithm of the rows, lists with their root.
        more = math.log(len(trial.living)) / math.log(len(rows)) if kind == "hnsw" else math.sqrt(growth)
        promise.append(((made.recall or 0.0) < target, made.milliseconds * more, kind))
        tell(f"tried {kind} on {len(rows):,} vectors: recall {made.recall or 0:.3f}, {made.milliseconds:.2f} ms")
    return [kind for _, _, kind in sorted(promise)]


def _tune_kind(kind: str, target: float, trial: Trial, tell: Told, check: Check) -> Tuned:
    total = len(trial.rows)
    plan = plan_for(kind, trial.dim, total)
    tell(f"building {plan.kind} over {total:,} vectors")
    proposer: Proposer | None = gpu.build(plan, trial.dim, trial.source, total)
    if proposer is None:
        chosen = np.random.default_rng(0).permutation(total)[: sample_size(plan, trial.dim, total)]
        sample = trial.source.take(np.sort(chosen))
        if kind in whole_bytes.KINDS and whole_bytes.are_of_one_length(trial.shortest, trial.longest):
            plan = replace(plan, scale=whole_bytes.scale_for(sample))
        pieces = in_pieces(trial.source, np.arange(total))
        proposer = build(plan, trial.dim, sample, pieces, lambda _: check())
    return cheapest(trial, proposer, plan, target, check)
