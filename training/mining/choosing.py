"""Which of a query's best candidates become its hard negatives.

MM-Embed (Lin et al. 2024, arXiv:2411.02571) takes them from two sets: C1, what stands above the labelled positive and
is of a modality that was not asked for, and C2, what is of the right modality and stands so far down that it is hardly
relevant. C1 is wrong whatever it shows, so that scores and rerankers are asked about C2 only.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from mmseek.errors import ConfigError

__all__ = ["Candidate", "Choice", "MiningOptions", "choose", "sets_of"]

Kind: TypeAlias = Literal["C1", "C2"]


@dataclass(frozen=True, slots=True)
class MiningOptions:
    """The thresholds.

    Args:
        depth: how many of the whole pool's best are looked at.
        below: C2 begins after this rank.
        negatives: how many a query gets at most.
        c1_share: probability of C1 where both sets have a candidate left.
        ratio: drop a C2 candidate that scores above this share of the positive's score (NV-Retriever's TopK-PercPos,
            arXiv:2407.15831, has 0.95); None for no limit.
        margin: drop a C2 candidate that scores above the positive's score less this; None for no limit.
        confirm_margin: with a reranker, a C2 candidate must score below the positive by more than this.
        seed: equal seeds choose alike.
    """

    depth: int = 50
    below: int = 45
    negatives: int = 1
    c1_share: float = 0.5
    ratio: float | None = None
    margin: float | None = None
    confirm_margin: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.depth < 1 or self.negatives < 1 or not 0 <= self.below < self.depth:
            raise ConfigError(
                f"depth {self.depth}, below {self.below} and negatives {self.negatives} do not fit: "
                "depth and negatives are at least 1, and below is less than depth"
            )
        if not 0 <= self.c1_share <= 1:
            raise ConfigError(f"c1-share is a probability, 0 to 1, not {self.c1_share}")
        for name, value in (("ratio", self.ratio), ("margin", self.margin), ("confirm-margin", self.confirm_margin)):
            if value is not None and not math.isfinite(value):
                raise ConfigError(f"{name} must be a finite number, not {value}")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A document at a rank (from 1) of a query's ranking. `right`: of a modality that was asked for."""

    row: int
    rank: int
    score: float
    right: bool


@dataclass(frozen=True, slots=True)
class Choice:
    """A hard negative and the set that it came from."""

    candidate: Candidate
    kind: Kind


def sets_of(
    ranking: Sequence[Candidate], positive_rank: int | None, positive_score: float, options: MiningOptions
) -> tuple[list[Candidate], list[Candidate]]:
    """C1 and C2 of a query.

    Args:
        ranking: its best candidates without any relevant document; ranks count those too.
        positive_rank: of the best labelled positive; None if it is not among the first `depth`.
        positive_score: of the same.
        options: the thresholds.
    """
    last = options.depth + 1 if positive_rank is None else positive_rank
    first = [each for each in ranking if not each.right and each.rank < last]
    second = [each for each in ranking if each.right and each.rank > options.below]
    if options.ratio is not None:
        # Of a negative score, less is further from zero.
        limit = positive_score * options.ratio if positive_score > 0 else positive_score / max(options.ratio, 1e-9)
        second = [each for each in second if each.score <= limit]
    if options.margin is not None:
        second = [each for each in second if each.score <= positive_score - options.margin]
    return first, second


def choose(
    query_id: str,
    first: Sequence[Candidate],
    second: Sequence[Candidate],
    options: MiningOptions,
    confirm: Callable[[Candidate], bool] = lambda _: True,
) -> list[Choice]:
    """Draw a query's negatives; what is drawn depends on seed and id, not on the other queries.

    Args:
        query_id: the query's id.
        first, second: C1 and C2.
        options: the thresholds.
        confirm: whether a C2 candidate is a negative indeed; asked only of those that are drawn.
    """
    name = int.from_bytes(hashlib.sha256(query_id.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    rng = np.random.default_rng((options.seed, name))
    left = {
        "C1": [first[n] for n in rng.permutation(len(first))],
        "C2": [second[n] for n in rng.permutation(len(second))],
    }
    chosen: list[Choice] = []
    while len(chosen) < options.negatives and (left["C1"] or left["C2"]):
        kind: Kind = "C1" if rng.random() < options.c1_share else "C2"
        if not left[kind]:
            kind = "C2" if kind == "C1" else "C1"
        candidate = left[kind].pop()
        if kind == "C1" or confirm(candidate):
            chosen.append(Choice(candidate, kind))
    return chosen
