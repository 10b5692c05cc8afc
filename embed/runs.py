"""Sequences laid end to end in one row of tokens, without padding: which of them may share a call of attention."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

__all__ = ["Run", "runs_of"]


class Run(NamedTuple):
    """`items` sequences of `length` tokens each, beginning at token `start`."""

    start: int
    items: int
    length: int


def runs_of(lengths: Sequence[int]) -> list[Run]:
    """Sequences of equal length that stand side by side make one run."""
    runs, start = [], 0
    for length, equal in groupby(lengths):
        count = len(list(equal))
        runs.append(Run(start, count, length))
        start += count * length
    return runs
