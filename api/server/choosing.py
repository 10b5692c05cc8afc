"""What a request may choose about rerankers."""

from __future__ import annotations

import copy

from mmseek.api.server.schemas import RerankingBody
from mmseek.errors import InputError
from mmseek.pipeline import Reranking, Retriever
from mmseek.pipeline.reranking import Stage


def chosen_reranking(retriever: Retriever, asked: RerankingBody | None) -> Reranking:
    """The server's own way, changed in what the request says.

    Raises:
        InputError: the request wants a reranker, and there is none.
    """
    usual = retriever.reranking
    if asked is None:
        return usual
    if retriever.reranker is None:
        _refuse(asked)
    return Reranking(
        usual.threshold if asked.threshold is None else asked.threshold,
        usual.fusion if asked.rerank_fusion is None else asked.rerank_fusion,
        usual.budget if asked.rerank_budget is None else asked.rerank_budget,
    )


def chosen_depths(retriever: Retriever, depths: list[int] | None, most: int) -> Retriever:
    """The retriever with other depths of its rerankers.

    Raises:
        InputError: there are more depths than rerankers, or one is above `most`.
    """
    if depths is None:
        return retriever
    stages = retriever.stages
    if len(depths) > len(stages):
        raise InputError(f"rerank_depth: there are {len(depths)} depths for {len(stages)} rerankers: give one for each")
    if max(depths, default=0) > most:
        raise InputError(f"rerank_depth: {max(depths)} hits are more than the {most} that are reranked at most")
    usual = [stage.depth for stage in stages]
    chosen = [*depths, *usual[len(depths) :]]
    changed = copy.copy(retriever)
    changed.stages = tuple(Stage(stage.reranker, depth) for stage, depth in zip(stages, chosen, strict=True))
    return changed


def _refuse(asked: RerankingBody) -> None:
    needed = {
        "rerank": asked.rerank,
        "rerank_fusion": asked.rerank_fusion is not None,
        "rerank_budget": asked.rerank_budget is not None,
        "rerank_depth": asked.rerank_depth is not None,
    }
    for name, given in needed.items():
        if given:
            raise InputError(f"this server has no reranker: start it with --rerank SPEC, or leave {name} out")
