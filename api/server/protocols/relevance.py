"""Scores from 0 to 1, as Cohere, Jina, Voyage, TEI and vLLM answer them.

Sources: Cohere's API reference, "Rerank API (v2)", `relevance_score`; TEI's and vLLM's documentation, where a
cross-encoder's logit goes through the logistic function unless `raw_scores` or `use_activation: false` is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmseek.protocols import Scaled

if TYPE_CHECKING:
    from mmseek.protocols import Reranker


def relevance(reranker: Reranker, scores: Sequence[float], *, raw: bool) -> list[float]:
    """The scores of a reranker, each from 0 to 1 and in the same order, or as they are.

    Those of a known scale become probabilities: logits by the logistic function, shares as they are. Others, such as
    sums over a query's words, keep their order and nothing else: `(1 + x / (1 + |x|)) / 2`, which tells large ones
    apart where the logistic function makes 1 of all of them.
    """
    if raw:
        return list(scores)
    scale = reranker.scale if isinstance(reranker, Scaled) else None
    if scale == "unit":
        return [min(max(score, 0.0), 1.0) for score in scores]
    return [_logistic(score) if scale == "logit" else (1 + score / (1 + abs(score))) / 2 for score in scores]


def _logistic(score: float) -> float:
    if score >= 0:
        return 1 / (1 + math.exp(-score))
    power = math.exp(score)  # of a positive number it would not fit
    return power / (1 + power)
