"""Scores of a reranker for the first of every query's ranking."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmseek._types import Content, Document, Pair
from mmseek.errors import InputError
from mmseek.rerank import select

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmseek._types import FloatArray
    from mmseek.evaluation.dataset import Dataset
    from mmseek.protocols import Reranker

__all__ = ["Judged", "Rankings", "score_candidates"]


@dataclass(frozen=True, slots=True)
class Rankings:
    """The ids of a corpus by their rows, and the first rows of each query's ranking by its id."""

    ids: Sequence[str]
    rows: Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Judged:
    """Scores of the first documents of one ranking, NaN where one could not be scored."""

    scores: FloatArray

    @property
    def unscored(self) -> int:
        """How many could not be scored."""
        return int(np.isnan(self.scores).sum())

    def order(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """A ranking in the order of the scores; equal ones stay as they are, then what has none, then the rest."""
        scored, without = np.flatnonzero(~np.isnan(self.scores)), np.flatnonzero(np.isnan(self.scores))
        places = scored[select(self.scores[scored])] if len(scored) else scored
        return np.concatenate([rows[places], rows[without], rows[len(self.scores) :]])


def score_candidates(
    data: Dataset,
    ids: Sequence[str],
    rankings: Mapping[str, NDArray[np.int64]],
    reranker: Reranker,
    depth: int,
    tell: Callable[[str, int, int], None],
) -> dict[str, Judged]:
    """The scores of the first `depth` of each ranking, by the query's id.

    Only the documents that are in one of them are held in memory.

    Args:
        data: queries and corpus.
        ids: of the corpus, by row.
        rankings: rows, best first, by the query's id.
        reranker: scores query and document, with the query's instruction.
        depth: how many of each.
        tell: called after each query.

    Raises:
        InputError: the depth is below 1.
    """
    if depth < 1:
        raise InputError(f"the rerank depth is how many of each ranking are scored and must be at least 1, not {depth}")
    wanted = {ids[row] for rows in rankings.values() for row in rows[:depth]}
    contents: dict[str, Content] = {
        each.id: each.content for each in data.corpus() if isinstance(each, Document) and each.id in wanted
    }
    judged: dict[str, Judged] = {}
    for query in data.queries:
        if query.id not in rankings:
            continue
        candidates = [contents[ids[row]] for row in rankings[query.id][:depth]]
        outcomes = reranker.stream(Pair(query.content, content, query.instruction) for content in candidates)
        scores = [np.nan if each.score is None else each.score for each in outcomes]
        judged[query.id] = Judged(np.asarray(scores, dtype=np.float32))
        tell("reranking", len(judged), len(rankings))
    return judged
