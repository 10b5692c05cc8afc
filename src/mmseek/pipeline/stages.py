"""Who is told of the steps of a search while they run: nobody, unless a caller asks (the service does, for traces)."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Protocol

__all__ = ["StageObserver", "observe_stages", "stage", "stage_observer"]


class StageObserver(Protocol):
    """Is told of steps. Called from whichever thread runs them."""

    def stage(self, name: str) -> AbstractContextManager[object]:
        """Entered when a step begins and left when it ends."""
        ...

    def record(self, name: str, began: float, ended: float, **about: str | float) -> None:
        """Tell of a step that is over; both times are of the monotonic clock."""
        ...


_OBSERVER: ContextVar[StageObserver | None] = ContextVar("mmseek_stage_observer", default=None)


def observe_stages(observer: StageObserver | None) -> None:
    """Tell this observer of the steps of the running task, and of threads that run in a copy of its context."""
    _OBSERVER.set(observer)


def stage_observer() -> StageObserver | None:
    """Who is told now."""
    return _OBSERVER.get()


def stage(name: str) -> AbstractContextManager[object]:
    """Around a step."""
    observer = _OBSERVER.get()
    return nullcontext() if observer is None else observer.stage(name)
