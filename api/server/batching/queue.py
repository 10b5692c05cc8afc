"""The order in which waiting work is taken: fair between clients by cost, the nearest deadline first within one.

Start-time fair queueing (Goyal, Vin and Cheng 1996): each client has a clock that its work moves on by its cost, the
client whose clock is least is next, and one that comes anew starts at the time that is served now. So a client with a
thousand items and one with a single item take turns, and nobody saves up turns by being away.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from mmseek.pipeline.stages import StageObserver

Req = TypeVar("Req")
Out = TypeVar("Out")


@dataclass(slots=True, eq=False)
class Group(Generic[Req, Out]):
    """The items of one call, answered together.

    Args:
        client: whose it is.
        deadline: on the monotonic clock; what has not been taken by then never is.
        outcomes: one a request, None until it is there.
        missing: how many are not there.
        cost: of all that were queued.
        began: when they were queued.
        observer: is told how long they waited and how long the model had them.
        taken: when the first of them went to the model; 0 before.
    """

    client: str
    deadline: float
    outcomes: list[Out | None]
    missing: int
    cost: int
    began: float
    observer: StageObserver | None = None
    taken: float = 0.0
    waiting: deque[Ticket[Req, Out]] = field(default_factory=deque)
    future: Future[list[Out]] = field(default_factory=Future)


@dataclass(slots=True, eq=False)
class Ticket(Generic[Req, Out]):
    """One item: its group and its place there."""

    group: Group[Req, Out]
    position: int
    request: Req
    cost: int
    key: bytes | None = None


@dataclass(slots=True, eq=False)
class _Client(Generic[Req, Out]):
    clock: float
    groups: list[tuple[float, int, Group[Req, Out]]] = field(default_factory=list)


class FairQueue(Generic[Req, Out]):
    """Not thread-safe: its owner holds a lock."""

    def __init__(self) -> None:
        self._clients: dict[str, _Client[Req, Out]] = {}
        self._turns: list[tuple[float, int, str]] = []
        self._numbers = itertools.count()
        self._now = 0.0

    def add(self, group: Group[Req, Out]) -> None:
        """Queue a group's waiting tickets."""
        client = self._clients.get(group.client)
        if client is None:
            client = self._clients[group.client] = _Client(self._now)
            heapq.heappush(self._turns, (client.clock, next(self._numbers), group.client))
        heapq.heappush(client.groups, (group.deadline, next(self._numbers), group))

    def take(self, budget: int, now: float) -> tuple[list[Ticket[Req, Out]], list[Group[Req, Out]]]:
        """The next tickets, at least one if there is any, then as many as the budget of cost allows.

        Also the groups whose deadline has passed: no ticket of theirs is left in the queue.
        """
        taken: list[Ticket[Req, Out]] = []
        expired: list[Group[Req, Out]] = []
        cost = 0
        while self._turns:
            clock, number, name = heapq.heappop(self._turns)
            client = self._clients[name]
            group = self._first(client, now, expired)
            if group is None:
                del self._clients[name]
                continue
            ticket = group.waiting[0]
            if taken and cost + ticket.cost > budget:
                heapq.heappush(self._turns, (clock, number, name))
                break
            group.waiting.popleft()
            group.taken = group.taken or now
            taken.append(ticket)
            cost += ticket.cost
            self._now = clock
            client.clock = clock + ticket.cost
            heapq.heappush(self._turns, (client.clock, next(self._numbers), name))
        return taken, expired

    def clear(self) -> Sequence[Group[Req, Out]]:
        """Forget everything; returns the groups that were queued."""
        groups = [group for client in self._clients.values() for _, _, group in client.groups]
        self._clients.clear()
        self._turns.clear()
        return groups

    def __bool__(self) -> bool:
        return bool(self._turns)

    def _first(self, client: _Client[Req, Out], now: float, expired: list[Group[Req, Out]]) -> Group[Req, Out] | None:
        while client.groups:
            deadline, _, group = client.groups[0]
            if group.waiting and deadline > now:
                return group
            if group.waiting:
                group.waiting.clear()
                expired.append(group)
            heapq.heappop(client.groups)
        return None
