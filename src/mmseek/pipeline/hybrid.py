"""Two lists of hits, by vector and in words, fused into one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from mmseek._types import Hit

Fusion: TypeAlias = Callable[[Sequence[Hit], Sequence[Hit]], Mapping[str, float]]

RRF_K = 60
# Of 0.3 to 0.7 the best on SciFact's train split; above reciprocal ranks (`benchmarks/hybrid_scifact.py`).
DENSE_WEIGHT = 0.3


def reciprocal_ranks(dense: Sequence[Hit], lexical: Sequence[Hit], *, k: int = RRF_K) -> dict[str, float]:
    """Reciprocal rank fusion (Cormack et al., 2009): the sum of 1 / (k + rank) over the lists that hold a document."""
    fused: dict[str, float] = {}
    for hit in (*dense, *lexical):
        fused[hit.id] = fused.get(hit.id, 0.0) + 1.0 / (k + hit.rank)
    return fused


def weighted_scores(
    dense: Sequence[Hit], lexical: Sequence[Hit], *, dense_weight: float = DENSE_WEIGHT
) -> dict[str, float]:
    """A weighted mean of both scores, either of them brought to 0 to 1; a document that is missing in a list has 0.

    A dense score counts from the list's last, for similarities have no zero that means anything. BM25 has one, so a
    lexical score is divided by the list's best.
    """
    fused: dict[str, float] = {}
    for hits, low, weight in ((dense, None, dense_weight), (lexical, 0.0, 1.0 - dense_weight)):
        for identifier, score in _scaled(hits, low).items():
            fused[identifier] = fused.get(identifier, 0.0) + weight * score
    return fused


def _scaled(hits: Sequence[Hit], low: float | None) -> dict[str, float]:
    if not hits:
        return {}
    low, high = hits[-1].score if low is None else low, hits[0].score
    # A list of equal scores says that all of them are its best.
    return {hit.id: (hit.score - low) / (high - low) if high > low else 1.0 for hit in hits}


def fuse(dense: Sequence[Hit], lexical: Sequence[Hit], k: int, fusion: Fusion = weighted_scores) -> list[Hit]:
    """The k best of both lists under one score; `Hit.scores` tells the parts. Equal scores go by the dense rank."""
    scores = fusion(dense, lexical)
    parts: dict[str, dict[str, float]] = {}
    hits: dict[str, Hit] = {}
    for hit in (*dense, *lexical):
        parts.setdefault(hit.id, {}).update(hit.scores)
        hits.setdefault(hit.id, hit)
    best = sorted(hits, key=lambda identifier: -scores[identifier])[:k]  # stable: dense hits come first
    return [
        replace(hits[name], rank=rank, score=scores[name], scores=parts[name])
        for rank, name in enumerate(best, start=1)
    ]
