"""Words that query and document share, weighed without a corpus: BM25 over word pieces with weights that are shipped.

A first stage counts in how many of its documents a word stands. A scorer of pairs has no such documents, so the inverse
document frequencies come from a corpus once and for all, and a score does not depend on what else is in the list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from mmseek._types import FloatArray

__all__ = ["inverse_frequencies", "lexical_score"]

# BM25 as Robertson and Zaragoza (2009) give it; the length is that of an abstract, in word pieces.
_K1: Final = 1.2
_B: Final = 0.75
_AVERAGE_LENGTH: Final = 200.0


def inverse_frequencies(corpus: Iterable[Sequence[int]], vocabulary: int) -> FloatArray:
    """`log(1 + (N - n + 0.5) / (n + 0.5))` of each word piece, float32 (vocabulary,)."""
    found = np.zeros(vocabulary)
    documents = 0
    for pieces in corpus:
        found[list(set(pieces))] += 1
        documents += 1
    return np.log1p((documents - found + 0.5) / (found + 0.5)).astype(np.float32)


def lexical_score(query: Sequence[int], document: Sequence[int], weights: FloatArray) -> float:
    """BM25 as a share of what the query's pieces weigh: 0 (nothing shared) to below 2.2."""
    # Summed in the order of the numbers, so that equal pairs have equal scores to the last bit.
    wanted = sorted(set(query))
    total = float(sum(weights[piece] for piece in wanted))
    if not wanted or not document or total <= 0:
        return 0.0
    counts = Counter(document)
    length = 1 - _B + _B * len(document) / _AVERAGE_LENGTH
    found = sum(
        float(weights[piece]) * counts[piece] * (_K1 + 1) / (counts[piece] + _K1 * length)
        for piece in wanted
        if piece in counts
    )
    return found / total
