"""Scores of relevant and of irrelevant documents, from the rankings of a dataset's queries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mmseek.evaluation.reranking import score_candidates
from mmseek.evaluation.runner import rank_by

if TYPE_CHECKING:
    from mmseek._types import FloatArray
    from mmseek.evaluation.dataset import Dataset
    from mmseek.evaluation.runner import Progress
    from mmseek.protocols import Encoder, Reranker

__all__ = ["labelled_scores"]


def labelled_scores(
    data: Dataset, encoder: Encoder, reranker: Reranker, depth: int, *, on_progress: Progress | None = None
) -> tuple[FloatArray, FloatArray]:
    """Scores of the relevant and of the irrelevant among the first `depth` hits of every query.

    Hits that cannot be scored are left out.

    Raises:
        EncodeError: no document could be encoded.
        InputError: the depth is below 1.
    """
    found = rank_by(data, encoder, depth, on_progress)
    judged = score_candidates(data, found.ids, found.rows, reranker, depth, on_progress or _tell_nobody)
    sides: tuple[list[float], list[float]] = ([], [])
    for query_id, each in judged.items():
        good = data.qrels[query_id]
        for row, score in zip(found.rows[query_id], each.scores, strict=False):
            if not np.isnan(score):
                sides[0 if found.ids[row] in good else 1].append(float(score))
    return np.asarray(sides[0], dtype=np.float32), np.asarray(sides[1], dtype=np.float32)


def _tell_nobody(_stage: str, _done: int, _total: int) -> None:
    return
