from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Form, UploadFile
from fastapi.responses import JSONResponse

from mmseek._types import Content, Image, Part, Query, SearchMode, Text
from mmseek.api.server.choosing import chosen_reranking
from mmseek.api.server.reading import make_query, read_query
from mmseek.api.server.schemas import ErrorAnswer, SearchAnswer, SearchBody
from mmseek.api.server.service import Service, ServiceDep
from mmseek.api.server.showing import search_json

router = APIRouter(prefix="/v1/search", tags=["search"], responses={400: {"model": ErrorAnswer}})


@router.post("", response_model=SearchAnswer)
async def search(body: SearchBody, service: ServiceDep) -> JSONResponse:
    """Find the documents nearest to a text, a picture, or both."""
    asked = SearchChoices(rerank=body.rerank, threshold=body.threshold, explain=body.explain)
    return JSONResponse(await service.encoding.run(lambda: _search(service, read_query(body, service.limits), asked)))


@router.post("/upload", response_model=SearchAnswer)
async def search_upload(
    service: ServiceDep,
    image: UploadFile,
    text: Annotated[str | None, Form()] = None,
    instruction: Annotated[str | None, Form()] = None,
    k: Annotated[int, Form(ge=1)] = 10,
    mode: Annotated[SearchMode, Form()] = "dense",
    filter: Annotated[str | None, Form()] = None,  # noqa: A002  # the word that Query and the other surfaces use
    rerank: Annotated[bool | None, Form()] = None,
) -> JSONResponse:
    """The same with the picture as a file, for forms: `curl -F image=@photo.jpg -F text=...`."""
    parts: list[Part] = [Image(data=await image.read())]
    if text and text.strip():
        parts.append(Text(text))
    query = make_query(Content(tuple(parts)), service.limits, k=k, instruction=instruction, mode=mode, filter=filter)
    return JSONResponse(await service.encoding.run(lambda: _search(service, query, SearchChoices(rerank=rerank))))


@dataclass(frozen=True, slots=True)
class SearchChoices:
    """What a request asks besides the query."""

    rerank: bool | None = None
    threshold: float | None = None
    explain: bool = False


def _search(service: Service, query: Query, asked: SearchChoices) -> dict[str, object]:
    retriever = service.retriever
    how = chosen_reranking(retriever, rerank=asked.rerank, threshold=asked.threshold)
    result = retriever.search(query, rerank=asked.rerank is not False, reranking=how, explain=asked.explain)
    return search_json(result)
