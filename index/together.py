"""Searches that meet are made as one pass over the rows.

A pass over all rows waits for memory most of the time, so it takes hardly longer for several queries than for one. As
many passes run at a time as there are lanes; queries that come meanwhile wait, and who goes next takes all of them
along. A query that meets nobody waits for nothing.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Found = TypeVar("Found")


@dataclass(slots=True, eq=False)
class _Waiting(Generic[Asked, Found]):
    """A caller that waits: for its answer, or for its turn to answer others with itself."""

    asked: Asked
    woken: threading.Event = field(default_factory=threading.Event)
    leads: list[_Waiting[Asked, Found]] = field(default_factory=list)
    found: Found | None = None
    error: BaseException | None = None


class Together(Generic[Asked, Found]):
    """Safe to call from any number of threads.

    Args:
        answer: answers several at once, one outcome each, in order.
        lanes: how many such calls may run at a time, at least 1.
        most: how many are answered at once.
    """

    def __init__(self, answer: Callable[[Sequence[Asked]], Sequence[Found]], lanes: int, most: int) -> None:
        self._answer = answer
        self._lanes = lanes
        self._most = most
        self._lock = threading.Lock()
        self._running = 0
        self._waiting: deque[_Waiting[Asked, Found]] = deque()

    def __call__(self, asked: Asked) -> Found:
        """The answer; what `answer` raises is raised to each of those that it was called for."""
        mine: _Waiting[Asked, Found] = _Waiting(asked)
        with self._lock:
            if self._running < self._lanes:
                self._running += 1
                mine.leads.append(mine)
            else:
                self._waiting.append(mine)
        if not mine.leads:
            mine.woken.wait()
        if mine.leads:
            self._lead(mine.leads)
        if mine.error is not None:
            raise mine.error
        assert mine.found is not None
        return mine.found

    def _lead(self, group: Sequence[_Waiting[Asked, Found]]) -> None:
        try:
            for each, found in zip(group, self._answer([each.asked for each in group]), strict=True):
                each.found = found
        except BaseException as error:  # noqa: BLE001 - every one of them raises it
            for each in group:
                each.error = error
        finally:
            self._pass_on()
            for each in group[1:]:
                each.woken.set()

    def _pass_on(self) -> None:
        """Give the lane to the first that waits, with all that wait behind it."""
        with self._lock:
            if not self._waiting:
                self._running -= 1
                return
            group = [self._waiting.popleft() for _ in range(min(len(self._waiting), self._most))]
            group[0].leads.extend(group)
        group[0].woken.set()
