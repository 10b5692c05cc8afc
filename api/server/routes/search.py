from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import Form, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError

from mmseek._types import Content, Image, Part, Query, SearchMode, Text
from mmseek.api.server.choosing import chosen_depths, chosen_reranking
from mmseek.api.server.fetched import Fetched, fetched
from mmseek.api.server.hosting.place import Place, PlaceDep
from mmseek.api.server.reading import check_ids, read_query, urls_of_query
from mmseek.api.server.routes.table import RouteTable
from mmseek.api.server.schemas import ErrorAnswer, RecommendBody, RerankingBody, SearchAnswer, SearchBody
from mmseek.api.server.showing import search_json
from mmseek.errors import InputError
from mmseek.pipeline import Retriever

table = RouteTable(tags=["search"], responses={400: {"model": ErrorAnswer}})


@table.post("/search", response_model=SearchAnswer)
async def search(body: SearchBody, place: PlaceDep) -> JSONResponse:
    """Find the documents nearest to a text, a picture, or both."""
    return JSONResponse(await _answer(place, body, None))


@table.post("/search/upload", response_model=SearchAnswer)
async def search_upload(
    place: PlaceDep,
    image: UploadFile,
    text: Annotated[str | None, Form()] = None,
    instruction: Annotated[str | None, Form()] = None,
    k: Annotated[int | None, Form(ge=1)] = None,
    mode: Annotated[SearchMode | None, Form()] = None,
    filter: Annotated[str | None, Form()] = None,  # noqa: A002  # the word that Query and the other surfaces use
    rerank: Annotated[bool | None, Form()] = None,
    options: Annotated[str | None, Form(description="any other field of a search, as one JSON object")] = None,
) -> JSONResponse:
    """The same with the picture as a file, for forms: `curl -F image=@photo.jpg -F text=...`."""
    given = {"instruction": instruction, "k": k, "mode": mode, "filter": filter, "rerank": rerank}
    body = _form_body({name: value for name, value in given.items() if value is not None}, options)
    parts: list[Part] = [Image(data=await image.read())]
    if text and text.strip():
        parts.append(Text(text))
    return JSONResponse(await _answer(place, body, Content(tuple(parts))))


@table.post("/recommend", response_model=SearchAnswer)
async def recommend(body: RecommendBody, place: PlaceDep) -> JSONResponse:
    """More documents like these, and less like those; they themselves are not among the hits."""
    return JSONResponse(await place.run(place.service.encoding, _recommend, place, body))


def _form_body(fields: dict[str, Any], options: str | None) -> SearchBody:
    try:
        others = {} if options is None else json.loads(options)
    except (ValueError, RecursionError) as error:
        raise InputError("options: is no JSON: give an object of fields of /v1/search") from error
    if not isinstance(others, dict) or {"text", "image", "content"} & set(others):
        raise InputError("options: give an object of fields of /v1/search, without text, image and content")
    try:
        return SearchBody.model_validate(others | fields)
    except ValidationError as error:
        raise RequestValidationError(
            [{**each, "loc": ("body", *each["loc"])} for each in error.errors(include_url=False)]
        ) from error


async def _answer(place: Place, body: SearchBody, content: Content | None) -> dict[str, Any]:
    found = await fetched(urls_of_query(body), place.service.limits)
    return await place.run(place.service.encoding, _search, place, body, content, found)


def _search(
    retriever: Retriever, place: Place, body: SearchBody, content: Content | None, found: Fetched
) -> dict[str, Any]:
    query = read_query(body, place.service.limits, content, found)
    return _found(retriever, query, body, place, explain=body.explain)


def _recommend(retriever: Retriever, place: Place, body: RecommendBody) -> dict[str, Any]:
    limits = place.service.limits
    # A search of documents alone: what else it may say is the same.
    fields = {name: value for name, value in body.model_dump(exclude_unset=True).items() if value is not None}
    query = read_query(SearchBody.model_validate(fields), limits)
    check_ids([*body.like, *body.unlike], "like and unlike", limits)
    return _found(retriever, query, None, place, explain=False)


def _found(
    retriever: Retriever, query: Query, asked: RerankingBody | None, place: Place, *, explain: bool
) -> dict[str, Any]:
    # Rerankers read texts and pictures; documents to be like are neither.
    wanted = False if asked is None else asked.rerank
    how = chosen_reranking(retriever, asked)
    if asked is not None:
        retriever = chosen_depths(retriever, asked.rerank_depth, place.service.limits.max_k)
    result = retriever.search(query, rerank=wanted is not False, reranking=how, explain=explain)
    return search_json(result, place.base)
