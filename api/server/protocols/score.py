"""vLLM's `/score`: pairs of one to many or of equal lists. Source: vLLM's docs, "Pooling models", score API."""

from __future__ import annotations

import uuid
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from mmseek._types import Pair
from mmseek.api.server.limits import ServerLimits
from mmseek.api.server.protocols.inputs import check_count, placed, read_item
from mmseek.api.server.protocols.models import reranker_name
from mmseek.api.server.protocols.relevance import relevance
from mmseek.api.server.protocols.working import pair_tokens, parse, score
from mmseek.api.server.service import ServiceDep
from mmseek.errors import InputError, MmseekError

router = APIRouter(tags=["rerank"])


class ScoreBody(BaseModel):
    """`text_1` against `text_2` (or `queries` against `documents`): one against many, or lists of one length."""

    model: str | None = None
    text_1: Any = None
    text_2: Any = None
    queries: Any = Field(None)
    documents: Any = Field(None)
    instruction: str | None = None
    use_activation: bool = Field(True, description="false: the reranker's own scores, on its own scale")


@router.post("/score")
@router.post("/v1/score")
async def score_pairs(body: ScoreBody, request: Request, service: ServiceDep) -> JSONResponse:
    """One score a pair, in the order of the pairs."""
    name = reranker_name(service, body.model)
    pairs = await parse(service, request, lambda: _read(body, service.limits))
    assert service.reranker is not None
    scores = relevance(service.reranker, await score(service, pairs, "text_2"), raw=not body.use_activation)
    tokens = sum(pair_tokens(pair.query, [pair.document]) for pair in pairs)
    return JSONResponse(
        {
            "id": f"score-{uuid.uuid4().hex}",
            "object": "list",
            "created": 0,
            "model": name,
            "data": [{"index": index, "object": "score", "score": value} for index, value in enumerate(scores)],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def _read(body: ScoreBody, limits: ServerLimits) -> list[Pair]:
    left = body.queries if body.text_1 is None else body.text_1
    right = body.documents if body.text_2 is None else body.text_2
    if left is None or right is None:
        raise InputError("give text_1 and text_2, or queries and documents")
    lefts, rights = (side if isinstance(side, list) else [side] for side in (left, right))
    check_count(len(rights), "text_2", limits)
    if len(lefts) == 1:
        lefts = lefts * len(rights)
    if len(lefts) != len(rights):
        raise InputError(f"text_1 has {len(lefts)} items and text_2 {len(rights)}: give one against many, or as many")
    pairs = []
    for place, (one, other) in enumerate(zip(lefts, rights, strict=True)):
        try:
            pairs.append(Pair(read_item(one, limits), read_item(other, limits), body.instruction))
        except MmseekError as error:
            raise placed(error, f"pair {place}") from error
    return pairs
