"""Reranking as Jina, Cohere, Voyage and TEI have it. They share addresses, so the keys of the body tell them apart:
`texts` is TEI's, `top_k` or `truncation` Voyage's, anything else Jina's and Cohere's, whose answers agree.

Scores are from 0 to 1, as these systems promise, and the reranker's own with TEI's `raw_scores: true`; see `relevance`.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from mmseek._types import Content, Pair
from mmseek.api.server.limits import ServerLimits
from mmseek.api.server.protocols.inputs import check_count, placed, read_item
from mmseek.api.server.protocols.models import reranker_name
from mmseek.api.server.protocols.relevance import relevance
from mmseek.api.server.protocols.working import pair_tokens, parse, score
from mmseek.api.server.service import ServiceDep
from mmseek.errors import InputError, MmseekError

router = APIRouter(tags=["rerank"])


class RerankBody(BaseModel):
    """A query and what is to be put in order: `documents`, or TEI's `texts`."""

    query: Any = Field(description="a string, or an object with text and image, or with content")
    documents: list[Any] | None = None
    texts: list[str] | None = None
    model: str | None = None
    top_n: int | None = Field(None, ge=1, strict=True)
    top_k: int | None = Field(None, ge=1, strict=True)
    return_documents: bool = False
    return_text: bool = False
    truncation: bool | None = None
    raw_scores: bool = Field(False, description="the reranker's own scores, on its own scale (TEI)")
    instruction: str | None = None

    @property
    def is_voyage(self) -> bool:
        """Whether Voyage's client sent it."""
        return "top_k" in self.model_fields_set or "truncation" in self.model_fields_set


@router.post("/v1/rerank")
@router.post("/v2/rerank")
@router.post("/rerank")
async def rerank(body: RerankBody, request: Request, service: ServiceDep) -> JSONResponse:
    """Documents in the order of how well they answer a query."""
    name = reranker_name(service, body.model)
    given, what = _given(body)
    query, documents = await parse(service, request, lambda: read_pairs(body.query, given, what, service.limits))
    scores = await score(service, [Pair(query, document, body.instruction) for document in documents], what)
    order = sorted(range(len(scores)), key=lambda place: -scores[place])  # before rounding can make two equal
    assert service.reranker is not None
    scores = relevance(service.reranker, scores, raw=body.raw_scores)
    if body.texts is not None:
        return JSONResponse(_tei(body, order, scores))
    return JSONResponse(_answer(body, name, order, scores, pair_tokens(query, documents)))


def read_pairs(
    query: object, given: Sequence[object], what: str, limits: ServerLimits
) -> tuple[Content, list[Content]]:
    """The query and the documents.

    Raises:
        MmseekError: what is wrong with which of them.
    """
    check_count(len(given), what, limits)
    try:
        asked = read_item(query, limits)
    except MmseekError as error:
        raise placed(error, "query") from error
    documents = []
    for place, item in enumerate(given):
        try:
            documents.append(read_item(item, limits))
        except MmseekError as error:
            raise placed(error, f"{what}[{place}]") from error
    return asked, documents


def _given(body: RerankBody) -> tuple[Sequence[object], str]:
    if (body.documents is None) == (body.texts is None):
        raise InputError("give documents to put in order (or texts, and the answer is a bare list)")
    return (body.documents, "documents") if body.documents is not None else (body.texts or [], "texts")


def _tei(body: RerankBody, order: Sequence[int], scores: Sequence[float]) -> list[dict[str, Any]]:
    texts = body.texts or []
    kept = {"text": texts} if body.return_text else {}
    return [
        {"index": place, "score": scores[place]} | {name: all_[place] for name, all_ in kept.items()} for place in order
    ]


def _answer(body: RerankBody, name: str, order: Sequence[int], scores: Sequence[float], tokens: int) -> dict[str, Any]:
    results = [_result(body, place, scores[place]) for place in order[: body.top_n or body.top_k]]
    usage = {"total_tokens": tokens, "prompt_tokens": tokens}
    if body.is_voyage:
        return {"object": "list", "data": results, "model": name, "usage": usage}
    return {
        "id": str(uuid.uuid4()),
        "model": name,
        "results": results,
        "usage": usage,
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
    }


def _result(body: RerankBody, place: int, value: float) -> dict[str, Any]:
    found: dict[str, Any] = {"index": place, "relevance_score": value}
    if body.return_documents:
        document = (body.documents or [])[place]
        found["document"] = {"text": document} if isinstance(document, str) and not body.is_voyage else document
    return found
