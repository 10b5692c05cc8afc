"""Questions to the service: what is sent, and the answer, whole or as it comes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypedDict
from urllib.parse import urljoin

from mmseek._answers import SomeWords, WholeAnswer
from mmseek._network import PASSING
from mmseek._types import Content, SearchMode
from mmseek.api.client.failures import BadAnswer, failure_of
from mmseek.api.client.requests import Picture, question_json

PATH: Final = "v1/ask"
# The server has asked its endpoint several times before it answers 502, and a time that is over is over.
AGAIN: Final = PASSING - {502, 504}
# Until the first word of an endpoint that has much to read.
TIMEOUT: Final = 300.0


class AskOptions(TypedDict, total=False):
    """How a question is answered; what is not given is as the server has it. See `POST /v1/ask`."""

    instruction: str
    k: int
    mode: SearchMode
    filter: str
    rerank: bool
    threshold: float
    requery: bool
    max_tokens: int
    context_chars: int
    pictures: int


@dataclass(frozen=True, slots=True)
class CitedSource:
    """What the model was given of one document.

    Args:
        number: what it is cited by, from 1.
        id: of what was found: a document, a page or a passage.
        document: the id of the whole document.
        title: its title, or else that id.
        page: from 1, if it has one.
        region: left, top, right, bottom on the page, in points from its upper left corner, if that is known.
        passage: from 1, of a text without pages.
        score: of the search.
        text: as it was sent, perhaps cut.
        images: URLs of its pictures, at the service.
    """

    number: int
    id: str
    document: str
    title: str
    page: int | None
    region: tuple[float, float, float, float] | None
    passage: int | None
    score: float
    text: str
    images: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AskedSources:
    """The first event of an answer: what the model is given. None where it is not asked."""

    sources: tuple[CitedSource, ...]
    searched: str
    below: int


class AnswerText(SomeWords):
    """Some words of an answer, as they come."""

    __slots__ = ()


class AskAnswer(WholeAnswer[CitedSource]):
    """A whole answer; its fields are those of `WholeAnswer`."""

    __slots__ = ()


AskEvent: TypeAlias = AskedSources | AnswerText | AskAnswer


def ask_body(
    question: str | Content | None, image: Picture | None, options: AskOptions, *, stream: bool
) -> dict[str, Any]:
    """The body of a question.

    Raises:
        InputError: there is nothing to ask.
        MediaNotFound: the picture's file cannot be read.
    """
    unknown = sorted(set(options) - set(AskOptions.__annotations__))
    if unknown:
        raise TypeError(f"a question takes no option {unknown[0]!r}")
    return {**question_json(question, image), **options, "stream": stream}


def read_answer(answer: Mapping[str, Any], base: str) -> AskAnswer:
    """The whole answer; `base` is the address of the service."""
    sources = _sources(answer, base)
    numbered = {source.number: source for source in sources}
    return AskAnswer(
        answer["answer"],
        answer["found"],
        sources,
        tuple(numbered[number] for number in answer["citations"]),
        tuple(answer["invented"]),
        answer["searched"],
        answer["below_threshold"],
        answer["took_ms"],
    )


class EventReader:
    """Makes events of the lines of a stream, one after the other.

    Args:
        base: the address of the service.
    """

    def __init__(self, base: str) -> None:
        self._base = base
        self._name = ""
        self.ended = False

    def read(self, line: str) -> AskEvent | None:
        """The event that this line completes, if it does.

        Raises:
            MmseekError: the stream says that the answer failed.
            BadAnswer: it is no stream of this service.
        """
        if line.startswith("event:"):
            self._name = line[6:].strip()
        if not line.startswith("data:"):
            return None
        try:
            return self._event(json.loads(line[5:]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self.broken() from error

    def broken(self) -> BadAnswer:
        """What is raised where the stream ends too early, or is none."""
        return BadAnswer(f"{self._base} broke off its answer, or the answer is not mmseek's: ask again")

    def _event(self, data: Mapping[str, Any]) -> AskEvent | None:
        if self._name == "text":
            return AnswerText(data["text"])
        if self._name == "sources":
            return AskedSources(_sources(data, self._base), data["searched"], data["below_threshold"])
        if self._name == "answer":
            self.ended = True
            return read_answer(data, self._base)
        if self._name == "error":
            raise failure_of(str(data["error"]["code"]), str(data["error"]["message"]))
        return None


def _sources(answer: Mapping[str, Any], base: str) -> tuple[CitedSource, ...]:
    return tuple(_source(each, base) for each in answer["sources"])


def _source(each: Mapping[str, Any], base: str) -> CitedSource:
    region: Sequence[float] | None = each["region"]
    return CitedSource(
        number=each["number"],
        id=each["id"],
        document=each["document"],
        title=each["title"],
        page=each["page"],
        region=None if region is None else (region[0], region[1], region[2], region[3]),
        passage=each["passage"],
        score=each["score"],
        text=each["text"],
        images=tuple(urljoin(base, image) for image in each["images"]),
    )
