"""A question -> an answer with sources: retrieve, pack, ask a chat endpoint, and see what it cited."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from mmseek._types import Content, Query, Text
from mmseek.config import settings
from mmseek.media import MediaLimits
from mmseek.pipeline.chat import Chat
from mmseek.pipeline.context import NOT_FOUND, Budget, Source, messages_for, pack, picture_part
from mmseek.pipeline.reranking import Reranking
from mmseek.pipeline.retriever import Retriever

__all__ = ["Answer", "Event", "Found", "Piece", "answer", "source_json", "stream_answer"]

_REQUERY: Final = (
    "Rewrite the question as one short query for a search engine that looks through documents and pictures. "
    "If a picture comes with it, name what matters in it. Answer with the query and nothing else."
)
_LONGEST_QUERY: Final = 300
_CITED: Final = re.compile(r"\[(\d{1,4}(?:\s*,\s*\d{1,4})*)\]")


@dataclass(frozen=True, slots=True)
class Found:
    """What the model is given. Comes before the first word of an answer.

    Args:
        sources: in the order of their numbers; none if nothing was found or nothing reached the threshold.
        searched: the words that were searched for, after requery.
        below: how many hits the threshold left out.
    """

    sources: tuple[Source, ...]
    searched: str
    below: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """Some words of the answer, as they come."""

    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The whole answer.

    Args:
        text: with citations such as `[1]`.
        found: whether the corpus answers the question; if not, the text is `not in the corpus`.
        sources: all that the model was given.
        cited: those that the answer names, in the order in which it does.
        invented: numbers that it names and that are no sources.
        searched: the words that were searched for, after requery.
        below: how many hits the threshold left out.
        took_ms: milliseconds in all.
    """

    text: str
    found: bool
    sources: tuple[Source, ...]
    cited: tuple[Source, ...]
    invented: tuple[int, ...]
    searched: str
    below: int
    took_ms: float


Event: TypeAlias = Found | Piece | Answer


def stream_answer(
    retriever: Retriever,
    query: Query,
    chat: Chat,
    *,
    reranking: Reranking | None = None,
    budget: Budget | None = None,
    requery: bool = False,
    limits: MediaLimits | None = None,
) -> Iterator[Event]:
    """Search, then ask: first `Found`, then the answer in `Piece`s, then the whole `Answer`.

    Where nothing is found, or nothing reaches the threshold, the endpoint is not asked, and the answer is
    `not in the corpus`. What the documents say is fenced off as data in what the endpoint is sent.

    Args:
        retriever: what is searched, with its rerankers.
        query: the question: its text, its pictures, how many hits, mode and filter.
        chat: who answers.
        reranking: threshold and fusion of this search, in place of the retriever's own.
        budget: how much text and how many pictures the model is given.
        requery: first let the model write the question anew for the search (MMSearch, arXiv:2409.12959).
        limits: of pictures, by default those of the settings.

    Raises:
        InputError: the question is empty or cannot be searched for.
        EndpointError: the endpoint cannot be reached, refuses or breaks off.
    """
    began = time.perf_counter()
    budget = budget or Budget()
    limits = limits or MediaLimits.from_settings(settings())
    asked = _rewritten(query, chat, budget, limits) if requery else query
    result = retriever.search(asked, reranking=reranking)
    found = Found(pack(result.hits, budget, limits), asked.content.text, result.below)
    yield found
    pieces: list[str] = []
    if found.sources:
        for text in chat.stream(messages_for(query.content, found.sources, budget, limits)):
            pieces.append(text)
            yield Piece(text)
    else:
        pieces.append(NOT_FOUND)
        yield Piece(NOT_FOUND)
    yield _answer("".join(pieces).strip(), found, (time.perf_counter() - began) * 1000)


def answer(retriever: Retriever, query: Query, chat: Chat, **options: Any) -> Answer:
    """The whole answer; arguments and errors as in `stream_answer`."""
    *_, last = stream_answer(retriever, query, chat, **options)
    assert isinstance(last, Answer)
    return last


def source_json(source: Source) -> dict[str, Any]:
    """A source as `--json` and a REST service write it: what is cited, and where it stands."""
    return {
        "number": source.number,
        "id": source.hit.id,
        "document": source.document,
        "title": source.title,
        "page": source.page,
        "passage": source.passage,
        "score": float(source.hit.score),
        "pictures": len(source.pictures),
        "text": source.text,
    }


def _rewritten(query: Query, chat: Chat, budget: Budget, limits: MediaLimits) -> Query:
    """The query with the model's words for it; as it was if the model has none."""
    parts = [picture_part(image, budget.side, limits) for image in query.content.images]
    parts.append({"type": "text", "text": f"Question: {query.content.text}"})
    said = chat.complete([{"role": "system", "content": _REQUERY}, {"role": "user", "content": parts}])
    words = " ".join(said.split()).strip("\"'` ")[:_LONGEST_QUERY]
    return replace(query, content=Content((*query.content.images, Text(words)))) if words else query


def _answer(text: str, found: Found, took_ms: float) -> Answer:
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
    return list(dict.fromkeys(int(each) for group in _CITED.findall(text) for each in group.split(",")))
