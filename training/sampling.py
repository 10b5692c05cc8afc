"""Which rows make which batch: a plan that a seed gives, so that a run can go on at any step.

VLM2Vec-V2's interleaved sub-batches (Meng et al. 2025, arXiv:2507.04590): sources are drawn by weight, and each draw
gives a run of rows of one source. The batch mixes sources, and the negatives within a run are hard.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mmseek.errors import ConfigError

__all__ = ["BatchPlan", "Pick"]


@dataclass(frozen=True, slots=True)
class Pick:
    """One row of a batch. `draw` is a number of its own to draw a positive and negatives with."""

    source: int
    row: int
    draw: int


class BatchPlan:
    """The batches of a run, the same for every process; each takes its own slice.

    Within a source every row comes once before any comes again, in a new order each time.

    Args:
        sizes: rows of each source.
        weights: how often each is drawn.
        batch: rows a batch, over all processes.
        sub_batch: rows drawn together; 0 for one, `batch` for batches of a single source.
        seed: equal seeds give equal plans.
        rank, world: of this process.

    Raises:
        ConfigError: the batch does not divide by the processes, or by the sub-batches.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        weights: Sequence[float],
        batch: int,
        *,
        sub_batch: int = 0,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._together = sub_batch or 1
        if batch % world:
            raise ConfigError(f"batch.size {batch} does not divide by {world} processes: choose a multiple")
        if batch % self._together:
            raise ConfigError(f"batch.size {batch} does not divide by batch.sub_batch {sub_batch}: choose a multiple")
        self._sizes, self._batch, self._seed = list(sizes), batch, seed
        total = float(sum(weights))
        self._shares = [weight / total for weight in weights]
        share = batch // world
        self._own = slice(rank * share, (rank + 1) * share)

    def __iter__(self) -> Iterator[list[Pick]]:
        """Endless batches, from the first step on."""
        rng = np.random.default_rng((self._seed, 0))
        rows = [_endless(size, self._seed, source) for source, size in enumerate(self._sizes)]
        while True:
            picks: list[Pick] = []
            while len(picks) < self._batch:
                source = int(rng.choice(len(self._sizes), p=self._shares))
                draws = rng.integers(2**62, size=self._together)
                picks += [Pick(source, next(rows[source]), int(draw)) for draw in draws]
            yield picks[self._own]


def _endless(size: int, seed: int, source: int) -> Iterator[int]:
    epoch = 0
    while True:
        yield from np.random.default_rng((seed, 1, source, epoch)).permutation(size).tolist()
        epoch += 1
