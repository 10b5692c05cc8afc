"""A question -> an answer with sources: retrieve, pack, ask a chat endpoint, and see what it cited."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, TypeAlias

from mmseek._answers import SomeWords, WholeAnswer
from mmseek._types import Content, Hit, Query, Text
from mmseek.config import settings
from mmseek.media import MediaLimits
from mmseek.pipeline.chat import Chat, Message
from mmseek.pipeline.context import NOT_FOUND, Budget, Source, messages_for, pack, picture_part
from mmseek.pipeline.reranking import Reranking
from mmseek.pipeline.retriever import Retriever, SearchResult

__all__ = [
    "CITED",
    "Answer",
    "Asking",
    "Event",
    "Found",
    "Piece",
    "answer",
    "answer_json",
    "astream_answer",
    "conclude",
    "find",
    "rewriting",
    "rewritten",
    "source_json",
    "stream_answer",
]

_REQUERY: Final = (
    "Rewrite the question as one short query for a search engine that looks through documents and pictures. "
    "If a picture comes with it, name what matters in it. Answer with the query and nothing else."
)
_LONGEST_QUERY: Final = 300
CITED: Final = re.compile(r"\[(\d{1,4}(?:\s*,\s*\d{1,4})*)\]")


@dataclass(frozen=True, slots=True)
class Found:
    """What the model is given. Comes before the first word of an answer.

    Args:
        sources: in the order of their numbers; none if nothing was found or nothing reached the threshold.
        searched: the words that were searched for, after requery.
        below: how many hits the threshold left out.
        hits: all that were found, also those for which the budget had no room.
    """

    sources: tuple[Source, ...]
    searched: str
    below: int = 0
    hits: tuple[Hit, ...] = field(default=(), repr=False)


class Piece(SomeWords):
    """Some words of the answer, as they come."""

    __slots__ = ()


class Answer(WholeAnswer[Source]):
    """The whole answer, and what the model was given."""

    __slots__ = ()


Event: TypeAlias = Found | Piece | Answer


@dataclass(frozen=True, slots=True)
class Asking:
    """How a question is answered.

    Args:
        reranking: threshold and fusion of this search, in place of the retriever's own.
        rerank: whether the retriever's rerankers are asked, if it has any.
        budget: how much text and how many pictures the model is given.
        requery: first let the model write the question anew for the search (MMSearch, arXiv:2409.12959).
        limits: of pictures, by default those of the settings.
    """

    reranking: Reranking | None = None
    rerank: bool = True
    budget: Budget = field(default_factory=Budget)
    requery: bool = False
    limits: MediaLimits = field(default_factory=lambda: MediaLimits.from_settings(settings()))


def stream_answer(
    retriever: Retriever,
    query: Query,
    chat: Chat,
    how: Asking | None = None,
) -> Iterator[Event]:
    """Search, then ask: first `Found`, then the answer in `Piece`s, then the whole `Answer`.

    Where nothing is found, or nothing reaches the threshold, the endpoint is not asked, and the answer is
    `not in the corpus`. What the documents say is fenced off as data in what the endpoint is sent.

    Args:
        retriever: what is searched, with its rerankers.
        query: the question: its text, its pictures, how many hits, mode and filter.
        chat: who answers.
        how: threshold, budget and requery.

    Raises:
        InputError: the question is empty or cannot be searched for.
        EndpointError: the endpoint cannot be reached, refuses or breaks off.
    """
    began = time.perf_counter()
    how = how or Asking()
    asked = rewritten(query, chat.complete(rewriting(query, how))) if how.requery else query
    found = find(retriever, asked, how)
    yield found
    pieces: list[str] = []
    for text in chat.stream(_asking(query, found, how)) if found.sources else (NOT_FOUND,):
        pieces.append(text)
        yield Piece(text)
    yield conclude("".join(pieces), found, (time.perf_counter() - began) * 1000)


async def astream_answer(
    retriever: Retriever,
    query: Query,
    chat: Chat,
    how: Asking | None = None,
    *,
    run: Callable[..., Awaitable[Any]] = asyncio.to_thread,
) -> AsyncGenerator[Event, None]:
    """As `stream_answer`, for an event loop. Where it is cancelled, the endpoint's connection is closed.

    Args:
        retriever, query, chat, how: as in `stream_answer`.
        run: runs a call that takes its time beside the loop.
    """
    began = time.perf_counter()
    how = how or Asking()
    asked = query
    if how.requery:
        asked = rewritten(query, await chat.acomplete(await run(rewriting, query, how)))
    found = await run(find, retriever, asked, how)
    yield found
    pieces: list[str] = []
    if found.sources:
        async with aclosing(chat.astream(await run(_asking, query, found, how))) as said:
            async for text in said:
                pieces.append(text)
                yield Piece(text)
    else:
        pieces.append(NOT_FOUND)
        yield Piece(NOT_FOUND)
    yield conclude("".join(pieces), found, (time.perf_counter() - began) * 1000)


class Searches(Protocol):
    """What can be searched as a retriever is."""

    def search(self, query: Query, *, rerank: bool, reranking: Reranking | None) -> SearchResult:
        """The hits, best first."""


def find(retriever: Retriever | Searches, query: Query, how: Asking) -> Found:
    """Search, and pack what is found into the budget. A caption that is found brings the picture that it is of.

    Raises:
        InputError: the query is empty or cannot be searched for.
    """
    query = query if query.group_by is not None else replace(query, group_by="caption")
    result = retriever.search(query, rerank=how.rerank, reranking=how.reranking)
    return Found(pack(result.hits, how.budget, how.limits), query.content.text, result.below, result.hits)


def _asking(query: Query, found: Found, how: Asking) -> list[Message]:
    return messages_for(query.content, found.sources, how.budget, how.limits)


def answer(retriever: Retriever, query: Query, chat: Chat, how: Asking | None = None) -> Answer:
    """The whole answer; arguments and errors as in `stream_answer`."""
    *_, last = stream_answer(retriever, query, chat, how)
    assert isinstance(last, Answer)
    return last


def answer_json(answer: Answer) -> dict[str, Any]:
    """An answer as `--json` and the REST service write it."""
    return {
        "answer": answer.text,
        "found": answer.found,
        "citations": [source.number for source in answer.cited],
        "invented": list(answer.invented),
        "sources": [source_json(source) for source in answer.sources],
        "searched": answer.searched,
        "below_threshold": answer.below,
        "took_ms": round(answer.took_ms, 3),
    }


def source_json(source: Source) -> dict[str, Any]:
    """A source as `--json` and a REST service write it: what is cited, and where it stands."""
    return {
        "number": source.number,
        "id": source.hit.id,
        "document": source.document,
        "title": source.title,
        "page": source.page,
        "region": None if source.region is None else list(source.region),
        "passage": source.passage,
        "score": float(source.hit.score),
        "pictures": len(source.pictures),
        "text": source.text,
    }


def rewriting(query: Query, how: Asking) -> list[Message]:
    """What the model is sent so that it writes the question anew.

    Raises:
        MediaError: a picture of the question cannot be used.
    """
    parts = [picture_part(image, how.budget.side, how.limits) for image in query.content.images]
    parts.append({"type": "text", "text": f"Question: {query.content.text}"})
    return [{"role": "system", "content": _REQUERY}, {"role": "user", "content": parts}]


def rewritten(query: Query, said: str) -> Query:
    """The query with the model's words for it; as it was if the model has none."""
    words = " ".join(said.split()).strip("\"'` ")[:_LONGEST_QUERY]
    return replace(query, content=Content((*query.content.images, Text(words)))) if words else query


def conclude(text: str, found: Found, took_ms: float) -> Answer:
    """The whole answer, with what it cites."""
    text = text.strip()
    given = {source.number: source for source in found.sources}
    numbers = _numbers(text)
    return Answer(
        text=text,
        found=bool(text) and text.rstrip(".! ").lower() != NOT_FOUND,
        sources=found.sources,
        cited=tuple(given[number] for number in numbers if number in given),
        invented=tuple(number for number in numbers if number not in given),
        searched=found.searched,
        below=found.below,
        took_ms=took_ms,
    )


def _numbers(text: str) -> Sequence[int]:
    """The numbers in square brackets, each once, in their order."""
    return list(dict.fromkeys(int(each) for group in CITED.findall(text) for each in group.split(",")))
