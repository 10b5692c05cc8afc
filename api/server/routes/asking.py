from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from mmseek.api.server.answering import Answering, AnsweringDep
from mmseek.api.server.choosing import chosen_depths, chosen_reranking
from mmseek.api.server.fetched import Fetched, fetched
from mmseek.api.server.hosting.place import Place, PlaceDep
from mmseek.api.server.reading import read_query, urls_of_query
from mmseek.api.server.routes.table import RouteTable
from mmseek.api.server.schemas import AskAnswer, AskBody, AskOffer, ErrorAnswer, SearchBody
from mmseek.api.server.service import Service
from mmseek.api.server.showing import picture_address
from mmseek.api.server.waiting import EventStream, ServerEvent, for_client
from mmseek.errors import InputError
from mmseek.pipeline.asking import Answer, Asking, Found, Piece, answer_json, astream_answer, source_json
from mmseek.pipeline.context import Budget

if TYPE_CHECKING:
    from mmseek._types import Query
    from mmseek.pipeline import Retriever
    from mmseek.pipeline.chat import Chat
    from mmseek.pipeline.context import Source

table = RouteTable(tags=["ask"], responses={400: {"model": ErrorAnswer}, 501: {"model": ErrorAnswer}})

# What a question has in common with a search.
_SEARCHED: Final = {"text", "image", "content", "instruction", "k", "filter", "mode"}
_STREAM: Final[dict[str, Any]] = {
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
    "description": "The answer; with `stream`, the events `sources`, `text` (repeated) and `answer`, or `error`.",
}


@dataclass(frozen=True, slots=True)
class _Question:
    """A request, read and within its bounds."""

    retriever: Retriever
    query: Query
    chat: Chat
    how: Asking


@table.get("/ask", response_model=AskOffer)
async def offer(request: Request) -> AskOffer:
    """Whether questions are answered here, by which model, and how much a request may ask for."""
    answering: Answering | None = getattr(request.app.state, "answering", None)
    if answering is None:
        return AskOffer(available=False)
    return AskOffer(
        available=True,
        model=answering.chat.model,
        max_tokens=answering.chat.max_tokens,
        context_chars=answering.budget.chars,
        pictures=answering.budget.pictures,
    )


@table.post("/ask", response_model=AskAnswer, responses={200: _STREAM})
async def ask(body: AskBody, place: PlaceDep, answering: AnsweringDep) -> Response:
    """Answer a question from the collection, by the chat endpoint that this server is set up with, with citations."""
    events = _events(body, place, answering)
    if not body.stream:
        return JSONResponse(await for_client(_last(events)))
    # The first event is awaited here: what goes wrong until then is answered with a status of its own.
    first = await for_client(anext(events))
    return EventStream(first, events)


async def _last(made: AsyncGenerator[ServerEvent, None]) -> dict[str, Any]:
    async with aclosing(made) as events:
        last: dict[str, Any] = {}
        async for _, data in events:
            last = dict(data)
        return last


async def _events(body: AskBody, place: Place, answering: Answering) -> AsyncGenerator[ServerEvent, None]:
    service = place.service
    found = await fetched(urls_of_query(body), service.limits)
    async with place.held(service.reading) as retriever:
        question = await service.reading.run(_read, retriever, body, service, answering, found)
        with answering.place():
            stream = astream_answer(
                question.retriever, question.query, question.chat, question.how, run=service.encoding.run
            )
            async with aclosing(stream) as events:
                async for event in events:
                    yield _event_json(event, place.base)


def _event_json(event: Found | Piece | Answer, base: str) -> ServerEvent:
    if isinstance(event, Piece):
        return "text", {"text": event.text}
    if isinstance(event, Answer):
        return "answer", answer_json(event) | {"sources": [_source_json(source, base) for source in event.sources]}
    return "sources", {
        "sources": [_source_json(source, base) for source in event.sources],
        "searched": event.searched,
        "below_threshold": event.below,
    }


def _source_json(source: Source, base: str) -> dict[str, Any]:
    """A source, and where its pictures are to be had."""
    pictures = len(source.hit.document.content.images)
    return source_json(source) | {
        "images": [picture_address(source.hit.id, number, base) for number in range(pictures)]
    }


def _read(retriever: Retriever, body: AskBody, service: Service, answering: Answering, found: Fetched) -> _Question:
    query = read_query(SearchBody(**body.model_dump(include=_SEARCHED)), service.limits, found=found)
    most = answering.budget
    budget = Budget(
        _within("context_chars", body.context_chars, most.chars),
        _within("pictures", body.pictures, most.pictures),
        most.side,
    )
    how = Asking(
        reranking=chosen_reranking(retriever, body),
        rerank=body.rerank is not False,
        budget=budget,
        requery=body.requery,
        limits=service.limits.media,
    )
    tokens = _within("max_tokens", body.max_tokens, answering.chat.max_tokens)
    return _Question(
        chosen_depths(retriever, body.rerank_depth, service.limits.max_k),
        query,
        replace(answering.chat, max_tokens=tokens),
        how,
    )


def _within(name: str, asked: int | None, most: int) -> int:
    if asked is not None and asked > most:
        raise InputError(f"{name} is {asked}, and {most} is the most here: ask for less")
    return most if asked is None else asked
