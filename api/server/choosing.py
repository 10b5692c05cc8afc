"""What a request may choose about rerankers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from mmseek.errors import InputError

if TYPE_CHECKING:
    from mmseek.pipeline import Reranking, Retriever


def chosen_reranking(retriever: Retriever, *, rerank: bool | None, threshold: float | None) -> Reranking:
    """The server's own way, with the request's threshold if it has one.

    Raises:
        InputError: the request wants a reranker, and there is none.
    """
    if rerank and retriever.reranker is None:
        raise InputError("this server has no reranker: start it with --rerank SPEC, or leave rerank out")
    return retriever.reranking if threshold is None else replace(retriever.reranking, threshold=threshold)
