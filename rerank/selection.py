"""From scores to an order: the best n, a threshold, and fusion with the first stage.

Candidates come in the order of the first stage. Equal scores keep that order, so a scorer that cannot tell documents
apart changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from mmseek.errors import InputError

if TYPE_CHECKING:
    from mmseek._types import FloatArray

    Scores: TypeAlias = Sequence[float] | FloatArray

__all__ = ["RRF_K", "fuse_rrf", "fuse_weighted", "select"]

# The constant of Cormack, Clarke and Buettcher (SIGIR 2009).
RRF_K: Final = 60


def select(scores: Scores, *, n: int | None = None, threshold: float | None = None) -> list[int]:
    """Positions of the candidates that stay, best first. The list may be empty.

    Args:
        scores: of all candidates (m,), in the order of the first stage.
        n: how many stay at most, at least 0; None for all.
        threshold: the least score that stays; None for any.

    Raises:
        InputError: a score is NaN or infinite, or n is negative.
    """
    if n is not None and n < 0:
        raise InputError(f"n is how many candidates stay and must be at least 0, not {n}")
    if threshold is not None and np.isnan(threshold):
        raise InputError("the threshold is not a number: give one such as 0.5")
    values = _checked(scores)
    order = np.argsort(-values, kind="stable")
    if threshold is not None:
        # float32 scores against the threshold as a float32: 0.3 is then at least 0.3.
        least = np.float32(threshold) if np.asarray(scores).dtype == np.float32 else threshold
        order = order[values[order] >= least]
    return [int(place) for place in order[:n]]


def fuse_weighted(first: Scores, rerank: Scores, weight: float) -> FloatArray:
    """`first + weight * rerank` (m,), float32: LamRA's fusion; its weights are 0.1 to 1.

    Raises:
        InputError: a number is NaN or infinite, or the two differ in length.
    """
    if not np.isfinite(weight):
        raise InputError(f"the weight of the reranker must be a finite number, not {weight}")
    one, two = _checked(first), _checked(rerank)
    _same_length(one, two)
    return np.asarray(one + weight * two, dtype=np.float32)


def fuse_rrf(*lists: Scores, k: int = RRF_K) -> FloatArray:
    """Reciprocal rank fusion (m,), float32: the sum over the lists of `1 / (k + rank)`, ranks from 1.

    Args:
        lists: the scores of the same candidates by each stage, the first stage's first.
        k: how little the first ranks stand out, at least 0.

    Raises:
        InputError: there is no list, one holds NaN or infinity, they differ in length, or k is negative.
    """
    if not lists:
        raise InputError("there is nothing to fuse: give the scores of at least one stage")
    if k < 0:
        raise InputError(f"k of the reciprocal rank fusion must be at least 0, not {k}")
    values = [_checked(scores) for scores in lists]
    _same_length(*values)
    total = np.zeros(len(values[0]))
    for each in values:
        ranks = np.empty(len(each))
        ranks[np.argsort(-each, kind="stable")] = np.arange(1, len(each) + 1)
        total += 1 / (k + ranks)
    return total.astype(np.float32)


def _checked(scores: Scores) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1:
        raise InputError(f"scores are one number a candidate, not an array of shape {values.shape}")
    if not np.isfinite(values).all():
        raise InputError(f"the score of candidate {int(np.argmin(np.isfinite(values)))} is NaN or infinite")
    return values


def _same_length(*lists: np.ndarray[tuple[int], np.dtype[np.float64]]) -> None:
    lengths = {len(each) for each in lists}
    if len(lengths) > 1:
        raise InputError(f"the stages scored different numbers of candidates: {sorted(lengths)}")
