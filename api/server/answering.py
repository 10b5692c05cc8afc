"""The chat endpoint behind the service: the operator's choice alone, with bounds on what a request may spend of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from mmseek.api.server.errors import NotOffered, ServerBusy
from mmseek.errors import ConfigError
from mmseek.pipeline.context import Budget

if TYPE_CHECKING:
    from mmseek.pipeline.chat import Chat


@dataclass(slots=True)
class Answering:
    """Who answers questions, and how much at most.

    Args:
        chat: the endpoint; its `max_tokens` is the most that a request may ask for.
        budget: of documents that are sent; the most too.
        at_once: questions that are answered at a time; more are refused as busy.

    Raises:
        ConfigError: `at_once` is below 1.
    """

    chat: Chat
    budget: Budget = field(default_factory=Budget)
    at_once: int = 8
    _inside: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.at_once < 1:
            raise ConfigError(f"the questions answered at a time must be at least 1, not {self.at_once}")

    @contextmanager
    def place(self) -> Iterator[None]:
        """One of the places, held while a question is answered. From the event loop's thread only.

        Raises:
            ServerBusy: all are taken.
        """
        if self._inside >= self.at_once:
            raise ServerBusy(f"{self._inside} questions are being answered already", retry_after=5)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1


def _answering(request: Request) -> Answering:
    found: Answering | None = getattr(request.app.state, "answering", None)
    if found is None:
        raise NotOffered(
            "this server has no chat endpoint to answer with: start it with --llm-url URL and --llm-model NAME"
        )
    return found


AnsweringDep = Annotated[Answering, Depends(_answering)]
