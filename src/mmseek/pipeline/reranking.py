"""The second stage of a search, and further ones: the first hits in the order of a reranker, within a time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np

from mmseek._types import Hit, Pair, Query, Scored
from mmseek.errors import InputError, MmseekError
from mmseek.protocols import Reranker
from mmseek.rerank import fuse_rrf, fuse_weighted, select

__all__ = [
    "DEFAULT_DEPTH",
    "Fusion",
    "Reranked",
    "Reranking",
    "Stage",
    "StageReport",
    "as_stages",
    "check_depth",
    "rerank_hits",
    "run_stages",
    "stage_json",
]

DEFAULT_DEPTH: Final = 50
# Of a chain: how many the first reranker orders, and how many each that follows.
CHAIN_DEPTHS: Final = (100, 20)
# With a time to keep to, so many pairs are scored before the clock is looked at, and never more than the second.
_FIRST_PIECE: Final = 4
_LARGEST_PIECE: Final = 32

Fusion: TypeAlias = float | Literal["rrf"]


@dataclass(frozen=True, slots=True)
class Stage:
    """A reranker and how many of the hits before it it orders."""

    reranker: Reranker
    depth: int = DEFAULT_DEPTH


@dataclass(frozen=True, slots=True)
class Reranking:
    """What is made of the scores of rerankers.

    Args:
        threshold: hits with a lower score of the last reranker are left out, those without one too; None for all.
        fusion: None for the reranker's order; a weight w for `first stage + w * rerank`; `rrf` for reciprocal ranks.
        budget: seconds that all rerankers together may take a query; None for as long as it takes.
    """

    threshold: float | None = None
    fusion: Fusion | None = None
    budget: float | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None and self.threshold != self.threshold:
            raise InputError("the threshold is not a number: give one such as 0.5")
        if self.budget is not None and not self.budget > 0:
            raise InputError(f"the rerank budget is a time in seconds and must be above 0, not {self.budget}")


@dataclass(frozen=True, slots=True)
class StageReport:
    """How far a reranker got: `scored` of the `asked` hits, in so many milliseconds."""

    reranker: str
    asked: int
    scored: int
    took_ms: float
    complete: bool = True


def stage_json(report: StageReport) -> dict[str, Any]:
    """As `--json` and REST show it."""
    return {
        "reranker": report.reranker,
        "asked": report.asked,
        "scored": report.scored,
        "complete": report.complete,
        "took_ms": round(report.took_ms, 3),
    }


class Reranked(NamedTuple):
    """The hits in their new order, what kept a document from being scored, by its id, and how far each stage got."""

    hits: tuple[Hit, ...]
    unscored: Mapping[str, MmseekError]
    stages: tuple[StageReport, ...] = ()
    below: int = 0


def check_depth(depth: int) -> int:
    """How many hits of the first stage are reranked.

    Raises:
        InputError: it is below 1.
    """
    if depth < 1:
        raise InputError(
            f"the rerank depth is the number of hits that are reranked and must be at least 1, not {depth}"
        )
    return depth


def as_stages(rerankers: Sequence[Reranker], depths: int | Sequence[int] | None) -> tuple[Stage, ...]:
    """Rerankers with their depths: 50 of one alone; of several 100, then 20 each, if nothing is said.

    Raises:
        InputError: a depth is below 1, or there are more depths than rerankers.
    """
    given = [depths] if isinstance(depths, int) else list(depths or ())
    if len(given) > max(len(rerankers), 1):
        raise InputError(f"there are {len(given)} rerank depths for {len(rerankers)} rerankers: give one for each")
    usual = [DEFAULT_DEPTH] if len(rerankers) == 1 else [CHAIN_DEPTHS[0], *[CHAIN_DEPTHS[1]] * len(rerankers)]
    chosen = [check_depth(depth) for depth in [*given, *usual[len(given) :]]]
    return tuple(Stage(reranker, depth) for reranker, depth in zip(rerankers, chosen, strict=False))


def rerank_hits(reranker: Reranker, query: Query, hits: Sequence[Hit]) -> Reranked:
    """Order all hits by one reranker and keep `query.k`; see `run_stages`.

    Raises:
        MmseekError: not one document could be scored; the first reason.
    """
    return run_stages([Stage(reranker, max(len(hits), 1))], query, hits)


def run_stages(stages: Sequence[Stage], query: Query, hits: Sequence[Hit], how: Reranking | None = None) -> Reranked:
    """Order the hits by each reranker in turn, each the first of what it finds, and keep `query.k`.

    The first reranker orders at least k. Equal scores keep the order that they had. A document that cannot be scored
    (its picture is gone, say) comes after all that can, without a `rerank` score of its own, and what no reranker came
    to follows as it was: the `score` of both is that of the hit before them. Scores of rerankers before the last are
    kept as `rerank_1`, `rerank_2`.

    Raises:
        MmseekError: not one document could be scored; the first reason.
    """
    how = how or Reranking()
    clock = _Clock(how.budget, time.perf_counter())
    failed: dict[str, MmseekError] = {}
    reports: list[StageReport] = []
    order = list(hits)
    for number, stage in enumerate(stages, start=1):
        depth = max(stage.depth, query.k) if number == 1 else stage.depth
        name = "rerank" if number == len(stages) else f"rerank_{number}"
        order, report = _one_stage(
            stage.reranker, query, order, min(depth, len(order)), name, how.fusion, clock, failed
        )
        reports.append(report)
    kept, below = _at_least(order, how.threshold, bool(stages))
    ranked = (replace(hit, rank=rank) for rank, hit in enumerate(kept[: query.k], start=1))
    return Reranked(tuple(ranked), MappingProxyType(failed), tuple(reports), below)


@dataclass(slots=True)
class _Clock:
    """Says how many more pairs fit into the time."""

    budget: float | None
    began: float

    def piece(self, a_pair: float | None) -> int | None:
        """How many pairs to score next; None for all, 0 if the time is over."""
        if self.budget is None:
            return None
        left = self.budget - (time.perf_counter() - self.began)
        if left <= 0:
            return 0
        if not a_pair:
            return _FIRST_PIECE
        return min(int(left / a_pair), _LARGEST_PIECE)


def _one_stage(
    reranker: Reranker,
    query: Query,
    hits: Sequence[Hit],
    depth: int,
    name: str,
    fusion: Fusion | None,
    clock: _Clock,
    failed: dict[str, MmseekError],
) -> tuple[list[Hit], StageReport]:
    """The hits in the order of one reranker, as far as the time goes."""
    began = time.perf_counter()
    outcomes = _score(reranker, query, hits[:depth], clock)
    reached, rest = hits[: len(outcomes)], hits[len(outcomes) :]
    errors = {hit.id: each.error for hit, each in zip(reached, outcomes, strict=True) if each.error is not None}
    failed.update(errors)
    scored = [(hit, each.score) for hit, each in zip(reached, outcomes, strict=True) if each.score is not None]
    if errors and not scored:
        raise next(iter(errors.values()))
    ordered = _ordered(scored, name, fusion)
    for hit in [*(hit for hit in reached if hit.id in errors), *rest]:
        ordered.append(replace(hit, score=ordered[-1].score) if ordered else hit)
    took = (time.perf_counter() - began) * 1000
    return ordered, StageReport(reranker.identity.spec, depth, len(scored), took, len(outcomes) == depth)


def _score(reranker: Reranker, query: Query, hits: Sequence[Hit], clock: _Clock) -> list[Scored]:
    """Outcomes of the first hits, of all of them unless the time ends before."""
    outcomes: list[Scored] = []
    a_pair: float | None = None
    while len(outcomes) < len(hits):
        size = clock.piece(a_pair)
        if size == 0:
            break
        piece = hits[len(outcomes) :][:size]
        began = time.perf_counter()
        got = list(reranker.stream(Pair(query.content, hit.document.content, query.instruction) for hit in piece))
        if len(got) != len(piece):
            raise MmseekError(f"{reranker.identity} gave {len(got)} scores for {len(piece)} documents: report this")
        a_pair = (time.perf_counter() - began) / len(piece)
        outcomes += got
    return outcomes


def _ordered(scored: Sequence[tuple[Hit, float]], name: str, fusion: Fusion | None) -> list[Hit]:
    """Hits by their scores, or by what fusion makes of these and those of the first stage."""
    rerank = [score for _, score in scored]
    before = [hit.score for hit, _ in scored]
    if fusion is None or not scored:
        final = rerank
    elif fusion == "rrf":
        final = [float(each) for each in fuse_rrf(before, rerank)]
    else:
        final = [float(each) for each in fuse_weighted(before, rerank, fusion)]
    return [
        replace(scored[place][0], score=final[place], scores={**scored[place][0].scores, name: rerank[place]})
        for place in select(final)
    ]


def _at_least(hits: Sequence[Hit], threshold: float | None, reranked: bool) -> tuple[list[Hit], int]:
    """The hits that reach the threshold, and how many do not; without a reranker, by their own score."""
    if threshold is None:
        return list(hits), 0
    least = np.float32(threshold)  # scores are float32: 0.7 is then at least 0.7
    kept = [
        hit for hit in hits if np.float32(hit.scores.get("rerank", float("-inf")) if reranked else hit.score) >= least
    ]
    return kept, len(hits) - len(kept)
