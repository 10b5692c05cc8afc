"""The batcher of one model: a bounded, fair queue before a worker that is watched.

Nothing polls. The worker sleeps until there is work and then takes what is there, up to a cost: while it is busy, the
next batch gathers, so batches grow with the load and a lone request waits for nothing.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from mmseek.api.server.batching.cache import VectorCache
from mmseek.api.server.batching.queue import FairQueue, Group, Ticket
from mmseek.api.server.batching.scope import RequestScope, current_scope
from mmseek.api.server.batching.worker import Round, Worker, WorkerState
from mmseek.api.server.errors import ClientGone, DeadlineExceeded, ServerBusy, ServerStopping, WorkerLost
from mmseek.api.server.metrics import Metrics
from mmseek.errors import ConfigError, MmseekError
from mmseek.pipeline.stages import stage_observer

Req = TypeVar("Req")
Out = TypeVar("Out")
# What a model does, in traces.
_VERBS: Final = {"encoder": "encode", "reranker": "rerank"}


@dataclass(frozen=True, slots=True)
class BatcherOptions:
    """How much waits and how much goes at once.

    Args:
        batch_cost: of one batch, in tokens or what counts as one; at least one item goes, whatever it costs.
        max_waiting: calls that may wait, the running ones included, before more are refused.
        max_waiting_cost: what all that wait may cost together, unless there is but one call.
        stuck_seconds: without any outcome for so long, the worker counts as stuck and is replaced.
        max_restarts: in a row, without any outcome between; then the worker has failed for good.
        backoff_seconds: before the first restart; doubled for each that follows at once.

    Raises:
        ConfigError: a number is not above 0.
    """

    batch_cost: int = 8192
    max_waiting: int = 256
    max_waiting_cost: int = 2_000_000
    stuck_seconds: float = 300.0
    max_restarts: int = 5
    backoff_seconds: float = 0.1

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} must be above 0, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Model(Generic[Req, Out]):
    """What a batcher must know of its model.

    Args:
        name: `encoder` or `reranker`, in metrics and the log.
        stream: one outcome a request, in order. What it raises is nobody's: the batch is tried in halves.
        cost: of a request, about what the model will find.
        probe: a request that a sound worker answers, be it with an error.
        key: equal keys have equal outcomes; None where nothing may be kept.
    """

    name: str
    stream: Callable[[Iterable[Req]], Iterator[Out]]
    cost: Callable[[Req], int]
    probe: Req
    key: Callable[[Req], bytes | None] | None = None


class Batcher(Generic[Req, Out]):
    """Takes requests from any thread. Its own threads start with the first and end with `close`."""

    def __init__(
        self,
        model: Model[Req, Out],
        options: BatcherOptions | None = None,
        *,
        metrics: Metrics | None = None,
        cache: VectorCache | None = None,
    ) -> None:
        self.options = options or BatcherOptions()
        self._model = model
        self._metrics = metrics or Metrics()
        self._cache = cache
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._queue: FairQueue[Req, Out] = FairQueue()
        self._unanswered: set[Group[Req, Out]] = set()
        self._waiting_cost = 0
        self._closed = False
        self._worker = Worker(model, self.options, self._next_round, self._answer, self._fail_round, self._metrics)

    @property
    def state(self) -> WorkerState:
        """How the worker is."""
        return self._worker.state

    @property
    def abandoned(self) -> bool:
        """Whether a thread was left behind in the model: then the process cannot end by itself."""
        return self._worker.abandoned

    def submit(
        self, requests: Sequence[Req], *, scope: RequestScope | None = None, bounded: bool = True
    ) -> Future[list[Out]]:
        """Queue requests; the future has one outcome each, in order, or the error of them all.

        Args:
            requests: what is kept from before is answered without waiting.
            scope: whose they are; without it, the current request's.
            bounded: whether they are refused if too much waits. Callers that are bounded themselves say no.

        Raises:
            ServerBusy: too much waits already.
            WorkerLost: the worker has failed for good.
            ServerStopping: the batcher is closed.
        """
        scope = scope or current_scope()
        nothing: list[Out | None] = [None] * len(requests)
        group = Group[Req, Out](scope.client, scope.deadline, nothing, 0, 0, time.monotonic(), stage_observer())
        for position, request in enumerate(requests):
            self._look_up(group, position, request)
        if not group.missing:
            _resolve(group)
            return group.future
        with self._lock:
            self._admit(group, bounded)
            self._unanswered.add(group)
            self._waiting_cost += group.cost
            self._queue.add(group)
            self._gauge()
            self._worker.start()
            self._work.notify()
        group.future.add_done_callback(lambda _: self._leave(group))  # a caller that gives up cancels it
        scope.on_gone(lambda: self._fail(group, ClientGone("the client hung up")))
        return group.future

    async def outcomes(self, requests: Sequence[Req]) -> list[Out]:
        """Submit for the current request and wait on the event loop, no longer than its deadline.

        Raises:
            DeadlineExceeded: it has passed; what was queued is dropped.
            MmseekError: as `submit`, or why the worker gave no outcome.
        """
        scope = current_scope()
        future = asyncio.wrap_future(self.submit(requests, scope=scope))
        try:
            return await asyncio.wait_for(future, scope.deadline - time.monotonic())
        except TimeoutError:
            raise DeadlineExceeded("no outcome by the deadline") from None

    def outcomes_blocking(self, future: Future[list[Out]]) -> list[Out]:
        """Wait for a submitted call of the current request in a thread; as `outcomes`."""
        try:
            return future.result(max(current_scope().deadline - time.monotonic(), 0))
        except TimeoutError:
            future.cancel()
            raise DeadlineExceeded("no outcome by the deadline") from None

    def close(self) -> None:
        """Refuse what comes, fail what waits, and end the threads."""
        with self._lock:
            self._closed = True
            groups = list(self._unanswered)
            self._queue.clear()
            self._work.notify_all()
        for group in groups:
            self._fail(group, ServerStopping("the server is stopping"))
        self._worker.close()

    def _look_up(self, group: Group[Req, Out], position: int, request: Req) -> None:
        key = None
        if self._cache is not None and self._model.key is not None:
            key = self._model.key(request)
            found = None if key is None else self._cache.get(key)
            self._metrics.cache.labels("miss" if found is None else "hit").inc()
            if found is not None:
                group.outcomes[position] = found  # type: ignore[assignment]  # what has a key is Encoded
                return
        ticket = Ticket(group, position, request, max(self._model.cost(request), 1), key)
        group.waiting.append(ticket)
        group.missing += 1
        group.cost += ticket.cost

    def _admit(self, group: Group[Req, Out], bounded: bool) -> None:
        if self._closed:
            raise ServerStopping("the server is stopping")
        if self._worker.state == "failed":
            raise WorkerLost(f"the {self._model.name} has failed and was not to be restarted")
        waiting = len(self._unanswered)
        too_much = self._waiting_cost + group.cost > self.options.max_waiting_cost and waiting
        if bounded and (waiting >= self.options.max_waiting or too_much):
            self._metrics.refused.labels(self._model.name).inc()
            raise ServerBusy(f"{waiting} requests wait for the {self._model.name} already", self._retry_after())

    def _retry_after(self) -> int:
        """Seconds until about half of what waits is done."""
        speed = self._worker.speed
        return min(max(round(self._waiting_cost / speed / 2), 1), 60) if speed else 1

    def _next_round(self, mine: Callable[[], bool]) -> Round[Req, Out] | None:
        """Wait for work; None once the thread that asks has been replaced or the batcher is closed."""
        while True:
            with self._lock:
                while not self._queue and not self._closed and mine():
                    self._work.wait()
                if self._closed or not mine():
                    self._work.notify()  # it may have been meant for the thread that replaces this one
                    return None
                tickets, expired = self._queue.take(self.options.batch_cost, time.monotonic())
                made = self._worker.begin(tickets) if tickets else None
            for group in expired:
                self._fail(group, DeadlineExceeded("it waited past its deadline"))
            if made is not None:
                return made

    def _answer(self, ticket: Ticket[Req, Out], outcome: Out) -> None:
        """Take one outcome from the worker."""
        group = ticket.group
        if self._cache is not None and ticket.key is not None:
            self._cache.put(ticket.key, outcome)  # type: ignore[arg-type]  # what has a key is Encoded
        group.outcomes[ticket.position] = outcome
        group.missing -= 1
        if not group.missing:
            self._leave(group)
            _resolve(group)

    def _fail_round(self, tickets: Sequence[Ticket[Req, Out]], error: Exception) -> None:
        for group in {ticket.group for ticket in tickets}:
            self._fail(group, error)
        if self._worker.state == "failed":
            with self._lock:
                groups = list(self._unanswered)
                self._queue.clear()
            for group in groups:
                self._fail(group, error)

    def _fail(self, group: Group[Req, Out], error: Exception) -> None:
        if self._leave(group) and not group.future.done():
            self._metrics.failed.labels(self._model.name, error.code if isinstance(error, MmseekError) else "bug").inc()
            with suppress(InvalidStateError):  # cancelled just now
                group.future.set_exception(error)

    def _leave(self, group: Group[Req, Out]) -> bool:
        """Let go of a group that is answered; False if somebody else was first."""
        with self._lock:
            if group not in self._unanswered:
                return False
            self._unanswered.discard(group)
            group.waiting.clear()
            self._waiting_cost -= group.cost
            now = time.monotonic()
            self._gauge()
        self._metrics.waited.labels(self._model.name).observe(max(now - group.began, 1e-6))
        if group.observer is not None:
            group.observer.record("queue", group.began, group.taken or now, model=self._model.name)
            if group.taken:
                group.observer.record(
                    _VERBS.get(self._model.name, self._model.name), group.taken, now, items=len(group.outcomes)
                )
        return True

    def _gauge(self) -> None:
        self._metrics.waiting.labels(self._model.name).set(len(self._unanswered))
        self._metrics.waiting_cost.labels(self._model.name).set(self._waiting_cost)


def _resolve(group: Group[Req, Out]) -> None:
    with suppress(InvalidStateError):  # its caller gave up
        group.future.set_result([outcome for outcome in group.outcomes if outcome is not None])
