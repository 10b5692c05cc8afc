"""Selection and fusion hold for any scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmseek.errors import InputError
from mmseek.rerank import fuse_rrf, fuse_weighted, select

NUMBERS = st.floats(-100, 100, width=32)
SCORES = st.lists(NUMBERS, max_size=30)
TWO = st.integers(0, 20).flatmap(lambda n: st.tuples(*[st.lists(NUMBERS, min_size=n, max_size=n)] * 2))


@given(SCORES, st.none() | st.integers(0, 40), st.none() | NUMBERS)
def test_what_stays_is_best_first_and_nothing_better_was_left_out(
    scores: list[float], n: int | None, threshold: float | None
) -> None:
    kept = select(scores, n=n, threshold=threshold)
    good = [place for place, score in enumerate(scores) if threshold is None or score >= threshold]
    # Python's own stable sort is the plain way.
    assert kept == sorted(good, key=lambda place: -scores[place])[:n]


@given(st.integers(0, 30), NUMBERS)
def test_a_constant_scorer_leaves_the_order(count: int, score: float) -> None:
    constant = [score] * count
    assert select(constant) == list(range(count))
    first = [float(count - place) for place in range(count)]
    assert select(fuse_weighted(first, constant, 0.5)) == list(range(count))
    assert select(fuse_rrf(first, constant)) == list(range(count))


def test_the_list_may_end_empty() -> None:
    assert select([0.1, 0.49], threshold=0.5) == []
    assert select([], threshold=0.5) == []
    assert select(np.asarray([0.3], dtype=np.float32), threshold=0.3) == [0], "a threshold is compared in float32"


@given(TWO, st.floats(0, 1))
def test_the_weighted_sum(two: tuple[list[float], list[float]], weight: float) -> None:
    first, rerank = two
    fused = fuse_weighted(first, rerank, weight)
    assert fused.dtype == np.float32
    expected = [a + weight * b for a, b in zip(first, rerank, strict=True)]
    np.testing.assert_allclose(fused, expected, rtol=1e-6, atol=1e-30)
    np.testing.assert_array_equal(fuse_weighted(first, rerank, 0.0), np.asarray(first, dtype=np.float32))


@given(TWO, st.integers(0, 100))
def test_reciprocal_ranks(two: tuple[list[float], list[float]], k: int) -> None:
    def rank(scores: list[float], place: int) -> int:
        return 1 + sum(s > scores[place] or (s == scores[place] and p < place) for p, s in enumerate(scores))

    expected = [sum(1 / (k + rank(scores, place)) for scores in two) for place in range(len(two[0]))]
    np.testing.assert_allclose(fuse_rrf(*two, k=k), expected, rtol=1e-6)


@given(SCORES)
def test_fusing_a_list_with_itself_keeps_its_order(scores: list[float]) -> None:
    assert select(fuse_rrf(scores, scores)) == select(scores)


def test_what_cannot_be_ordered_is_refused() -> None:
    for bad in (math.nan, math.inf):
        with pytest.raises(InputError, match="candidate 1 is NaN or infinite"):
            select([0.0, bad])
        with pytest.raises(InputError, match="finite number"):
            fuse_weighted([0.0], [0.0], bad)
    with pytest.raises(InputError, match="not -1"):
        select([0.0], n=-1)
    with pytest.raises(InputError, match="threshold is not a number"):
        select([0.0], threshold=math.nan)
    with pytest.raises(InputError, match="different numbers"):
        fuse_weighted([0.0], [0.0, 1.0], 1.0)
    with pytest.raises(InputError, match="different numbers"):
        fuse_rrf([0.0], [0.0, 1.0])
    with pytest.raises(InputError, match="nothing to fuse"):
        fuse_rrf()
    with pytest.raises(InputError, match="at least 0"):
        fuse_rrf([0.0], k=-1)
    with pytest.raises(InputError, match="one number a candidate"):
        select(np.zeros((2, 2), dtype=np.float32))
