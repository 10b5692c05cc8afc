"""The second stage of a search: the first hits in the order of a reranker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from mmseek._types import Hit, Pair, Query
from mmseek.errors import InputError, MmseekError
from mmseek.protocols import Reranker
from mmseek.rerank import select

__all__ = ["DEFAULT_DEPTH", "Reranked", "check_depth", "rerank_hits"]

DEFAULT_DEPTH = 50


class Reranked(NamedTuple):
    """The hits in their new order, and what kept a document from being scored, by its id."""

    hits: tuple[Hit, ...]
    unscored: Mapping[str, MmseekError]


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


def rerank_hits(reranker: Reranker, query: Query, hits: Sequence[Hit]) -> Reranked:
    """Order the hits of the first stage by the reranker and keep `query.k`.

    Equal scores keep the order of the first stage. A document that cannot be scored (its picture is gone, say) comes
    after all that can, without a `rerank` score of its own: its `score` is that of the hit before it.

    Raises:
        MmseekError: not one document could be scored; the first reason.
    """
    pairs = (Pair(query.content, hit.document.content, query.instruction) for hit in hits)
    outcomes = list(reranker.stream(pairs))
    if len(outcomes) != len(hits):
        raise MmseekError(f"{reranker.identity} gave {len(outcomes)} scores for {len(hits)} documents: report this")
    failed = {hit.id: each.error for hit, each in zip(hits, outcomes, strict=True) if each.error is not None}
    scored = [(hit, each.score) for hit, each in zip(hits, outcomes, strict=True) if each.score is not None]
    if failed and not scored:
        raise next(iter(failed.values()))
    ordered = [
        replace(
            scored[place][0], score=scored[place][1], scores={**scored[place][0].scores, "rerank": scored[place][1]}
        )
        for place in select([score for _, score in scored])
    ]
    ordered += [replace(hit, score=ordered[-1].score) for hit in hits if hit.id in failed]
    kept = (replace(hit, rank=rank) for rank, hit in enumerate(ordered[: query.k], start=1))
    return Reranked(tuple(kept), MappingProxyType(failed))
