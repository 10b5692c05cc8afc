"""Batches: every pair once, in order, within the budget, and smaller when memory runs out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmseek._types import Content, Pair, RerankerIdentity
from mmseek.errors import EncodeError
from mmseek.protocols import Reranker
from mmseek.rerank.base import BatchedReranker, Prepared, cut_batches

if TYPE_CHECKING:
    from mmseek._types import FloatArray


class Lengths(BatchedReranker):
    """Scores a pair by the length of its document; has memory for so many pairs at once."""

    def __init__(self, *, budget: int = 50, room: int = 10**6, error: Exception | None = None) -> None:
        self.batches: list[list[int]] = []
        self._budget = budget
        self._room = room
        self._error = error or MemoryError()

    @property
    def identity(self) -> RerankerIdentity:
        return RerankerIdentity("lengths", "0" * 64)

    @property
    def budget(self) -> int:
        return self._budget

    def prepare(self, pair: Pair) -> Prepared:
        if "bad" in pair.document.text:
            raise EncodeError("it is bad")
        return Prepared(len(pair.document.text), cost=1 + len(pair.document.text))

    def forward(self, payloads: Sequence[int]) -> FloatArray:
        if len(payloads) > self._room:
            raise self._error
        self.batches.append(list(payloads))
        return np.asarray(payloads, dtype=np.float32)


def documents(lengths: Sequence[int]) -> list[Content]:
    return [Content.of("x" * length) for length in lengths]


@given(st.lists(st.integers(0, 60), max_size=300), st.integers(1, 200))
def test_one_score_each_in_input_order(lengths: list[int], budget: int) -> None:
    reranker = Lengths(budget=budget)
    assert isinstance(reranker, Reranker)
    assert reranker.score(Content.of("q"), documents(lengths)).tolist() == lengths
    for batch in reranker.batches:
        assert len(batch) == 1 or len(batch) * (1 + max(batch)) <= budget


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 100))
def test_batches_are_as_large_as_the_budget_allows(costs: list[int], budget: int) -> None:
    batches = cut_batches(range(len(costs)), costs, budget)
    assert [place for batch in batches for place in batch] == list(range(len(costs)))
    for batch, following in pairwise(batches):
        longer = [costs[place] for place in [*batch, following[0]]]
        assert len(longer) * max(longer) > budget


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 1 GiB")])
def test_memory_that_runs_out_halves_the_batch(error: Exception) -> None:
    reranker = Lengths(budget=10**6, room=3, error=error)
    assert reranker.score(Content.of("q"), documents(range(20))).tolist() == list(range(20))
    assert max(map(len, reranker.batches)) <= 3
    with pytest.raises(EncodeError, match="does not fit into memory"):
        Lengths(room=0, error=error).score(Content.of("q"), documents([1]))


class Poisoned(Lengths):
    """Fails on any batch that holds a document of 7 letters."""

    def forward(self, payloads: Sequence[int]) -> FloatArray:
        if 7 in payloads:
            raise RuntimeError("shapes differ")
        return super().forward(payloads)


def test_a_pair_that_makes_the_model_fail_fails_alone() -> None:
    pairs = [Pair(Content.of("q"), document) for document in documents(range(20))]
    outcomes = list(Poisoned(budget=10**6).stream(pairs))
    assert [place for place, each in enumerate(outcomes) if each.error] == [7]
    assert "RuntimeError: shapes differ" in str(outcomes[7].error)
    assert [each.score for each in outcomes if each.error is None] == [n for n in range(20) if n != 7]


def test_a_stream_is_read_piece_by_piece() -> None:
    read = 0

    def endless() -> Iterator[Pair]:
        nonlocal read
        while True:
            read += 1
            yield Pair(Content.of("q"), Content.of("bad" if read % 7 == 0 else "x"))

    stream = Lengths().stream(endless())
    outcomes = [next(stream) for _ in range(300)]
    assert read <= 300 + 128
    assert [place for place, each in enumerate(outcomes, start=1) if each.error] == list(range(7, 301, 7))


def test_the_position_of_what_fails_is_named() -> None:
    with pytest.raises(EncodeError, match=r"^document 1: it is bad$"):
        Lengths().score(Content.of("q"), [Content.of("x"), Content.of("bad"), Content.of("bad")])
    with pytest.raises(EncodeError, match=r"^it is bad$"):
        Lengths().score(Content.of("q"), [Content.of("bad")])
