"""What an answer with sources is, where it is made as where it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class SomeWords:
    """Some words of an answer, as they come."""

    text: str


@dataclass(frozen=True, slots=True)
class WholeAnswer(Generic[S]):
    """The whole answer.

    Args:
        text: with citations such as `[1]`.
        found: whether the corpus answers the question; if not, the text is `not in the corpus`.
        sources: all that the model was given.
        cited: those that the answer names, in the order in which it does.
        invented: numbers that it names and that are no sources.
        searched: the words that were searched for, after requery.
        below: how many hits the threshold left out.
        took_ms: milliseconds in all; of a service, in the server.
    """

    text: str
    found: bool
    sources: tuple[S, ...]
    cited: tuple[S, ...]
    invented: tuple[int, ...]
    searched: str
    below: int
    took_ms: float
