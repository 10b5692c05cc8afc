"""From picks to labelled pairs: a row's query with one positive, and with some of its hard negatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from mmseek._types import EncodeRequest, Pair
from mmseek.rerank.base import Prepared
from mmseek.training.ahead import RowsAhead
from mmseek.training.data.rows import Source, TrainingRow
from mmseek.training.sampling import BatchPlan, Pick

__all__ = ["Labelled", "PairLoader", "pairs_of"]

Labelled = tuple[Prepared, bool]
"""A prepared pair, and whether its document is relevant."""


def pairs_of(row: TrainingRow, negatives: int, draw: int) -> list[tuple[Pair, bool]]:
    """A row's pairs, the relevant one first.

    Args:
        row: a row with at least one positive.
        negatives: how many of its hard negatives; a row with fewer gives those it has.
        draw: equal numbers draw alike.
    """
    rng = np.random.default_rng(draw)
    positive = row.positives[int(rng.integers(len(row.positives)))]
    chosen = [row.negatives[place] for place in rng.permutation(len(row.negatives))[:negatives]]

    def pair(document: EncodeRequest) -> Pair:
        return Pair(row.query.content, document.content, row.query.instruction)

    return [(pair(positive), True), *((pair(each), False) for each in chosen)]


class PairLoader(RowsAhead[list[Labelled]]):
    """Labelled pairs of each step. Iterate once at a time.

    Args:
        plan: which rows.
        sources: where they are.
        prepare: a pair -> what the model takes; safe in threads.
        negatives: hard negatives a row.
        steps: of the whole run.
        workers: threads.
        skip_bad_rows: take the next row in place of one that cannot be used.
    """

    def __init__(
        self,
        plan: BatchPlan,
        sources: Sequence[Source],
        prepare: Callable[[Pair], Prepared],
        *,
        negatives: int,
        steps: int,
        workers: int = 2,
        skip_bad_rows: bool = False,
    ) -> None:
        super().__init__(plan, sources, steps=steps, workers=workers, skip_bad_rows=skip_bad_rows)
        self._prepare, self._negatives = prepare, negatives

    def __iter__(self) -> Iterator[list[Labelled]]:
        """The pairs of steps `start` to the last.

        Raises:
            DatasetError: a row cannot be used, and rows are not to be skipped.
        """
        return ([pair for row in rows for pair in row] for rows in self.drawn_ahead())

    def drawn(self, row: TrainingRow, pick: Pick) -> list[Labelled]:
        """See `pairs_of`; prepared."""
        pairs = pairs_of(row, self._negatives, pick.draw)
        return [(self._prepare(pair), relevant) for pair, relevant in pairs]
