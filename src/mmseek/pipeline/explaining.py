"""Why a hit stands where it does: its place before reranking, and what each reranker was sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmseek._types import Hit, Pair, Query, Sent
from mmseek.errors import MmseekError
from mmseek.pipeline.reranking import Stage, StageReport
from mmseek.protocols import Explaining

__all__ = ["Explanation", "explain", "explanation_json"]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Of one hit.

    Args:
        first_rank, first_score: of the first stage.
        scores: of every stage, by name.
        sent: what the last reranker's model read; None if no reranker came to this hit, or it does not tell.
        took_ms: this hit's share of the time of the rerankers that scored it.
    """

    first_rank: int
    first_score: float
    scores: Mapping[str, float]
    sent: Sent | None
    took_ms: float


def explain(
    query: Query,
    first: Sequence[Hit],
    hits: Sequence[Hit],
    stages: Sequence[Stage],
    reports: Sequence[StageReport],
) -> dict[str, Explanation]:
    """An explanation of every hit, by its id.

    Args:
        query: what was asked.
        first: the hits of the first stage.
        hits: the final ones.
        stages, reports: the rerankers and how far they got.
    """
    before = {hit.id: hit for hit in first}
    return {hit.id: _explained(query, before[hit.id], hit, stages, reports) for hit in hits}


def explanation_json(explanation: Explanation) -> dict[str, Any]:
    """As `--json` and REST show it."""
    sent = explanation.sent
    return {
        "first_rank": explanation.first_rank,
        "first_score": float(explanation.first_score),
        "scores": {name: float(score) for name, score in explanation.scores.items()},
        "sent": None
        if sent is None
        else {"prompt": sent.prompt, "picture_tokens": list(sent.picture_tokens), "tokens": sent.tokens},
        "took_ms": round(explanation.took_ms, 3),
    }


def _explained(
    query: Query, before: Hit, hit: Hit, stages: Sequence[Stage], reports: Sequence[StageReport]
) -> Explanation:
    sent, took = None, 0.0
    for number, (stage, report) in enumerate(zip(stages, reports, strict=True), start=1):
        if ("rerank" if number == len(stages) else f"rerank_{number}") in hit.scores:
            sent = _sent(stage, Pair(query.content, hit.document.content, query.instruction))
            took += report.took_ms / max(report.scored, 1)
    return Explanation(before.rank, before.score, dict(hit.scores), sent, took)


def _sent(stage: Stage, pair: Pair) -> Sent | None:
    if not isinstance(stage.reranker, Explaining):
        return None
    try:
        return stage.reranker.sent(pair)
    except MmseekError:
        return None  # it was scored a moment ago; a file that went since is no reason to fail the search
