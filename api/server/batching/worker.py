"""The thread that runs the model, and what happens when it dies or hangs.

An exception of the model is not the worker's end: the batch is tried again in halves until only what is to blame fails.
The worker is lost when its thread ends on anything else, when no outcome comes for too long, or when batch after batch
fails whole. Then its requests are told so, it is replaced by a new thread, and until that one has answered a probe the
state is `restarting`. A thread that hangs cannot be ended; it is left behind, and whatever it still answers is ignored.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, Literal, TypeAlias, TypeVar

import structlog

from mmseek.api.server.errors import WorkerLost
from mmseek.errors import EncodeError, MmseekError
from mmseek.models.device import free_cached_memory, is_out_of_memory

if TYPE_CHECKING:
    from mmseek.api.server.batching.batcher import BatcherOptions, Model
    from mmseek.api.server.batching.queue import Ticket
    from mmseek.api.server.metrics import Metrics

Req = TypeVar("Req")
Out = TypeVar("Out")
WorkerState: TypeAlias = Literal["ready", "restarting", "failed"]

# Batches that failed whole, one after another, before the model counts as broken.
_BROKEN_ROUNDS: Final = 3
_LONGEST_BACKOFF: Final = 10.0

_log = structlog.get_logger("mmseek.api")


@dataclass(slots=True, eq=False)
class Round(Generic[Req, Out]):
    """The tickets that are with the model, and when the last of them was answered."""

    tickets: Sequence[Ticket[Req, Out]]
    progress: float
    answered: int = 0


class Worker(Generic[Req, Out]):
    """Runs rounds in one thread at a time and watches that thread from another.

    Args:
        model: what it runs.
        options: of the batcher.
        next_round: waits for work; None ends the thread. Calls `begin` under the batcher's lock.
        answer: takes one outcome.
        fail: takes tickets that end with an error.
        metrics: of the service.
    """

    def __init__(
        self,
        model: Model[Req, Out],
        options: BatcherOptions,
        next_round: Callable[[Callable[[], bool]], Round[Req, Out] | None],
        answer: Callable[[Ticket[Req, Out], Out], None],
        fail: Callable[[Sequence[Ticket[Req, Out]], Exception], None],
        metrics: Metrics,
    ) -> None:
        self._model, self._options, self._metrics = model, options, metrics
        self._next_round, self._answer, self._fail = next_round, answer, fail
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._left_behind: list[threading.Thread] = []
        self._round: Round[Req, Out] | None = None
        self._restarts = self._broken = 0
        self.state: WorkerState = "ready"
        self.speed = 0.0  # cost a second, lately

    @property
    def abandoned(self) -> bool:
        """Whether a thread that hung still does."""
        return any(thread.is_alive() for thread in self._left_behind)

    def start(self) -> None:
        """Start the threads, if they have not been."""
        if self._thread is None:
            self._replace(probe=False)
            threading.Thread(target=self._watch, name=f"mmseek-watch-{self._model.name}", daemon=True).start()

    def begin(self, tickets: Sequence[Ticket[Req, Out]]) -> Round[Req, Out]:
        """Note what the model is given, so that it can be watched."""
        made = Round(tickets, time.monotonic())
        self._round = made
        self._metrics.batch_items.labels(self._model.name).observe(len(tickets))
        self._metrics.batch_cost.labels(self._model.name).observe(sum(ticket.cost for ticket in tickets))
        return made

    def close(self) -> None:
        """End the threads; one that hangs is left behind."""
        self._stop.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(min(self._options.stuck_seconds, 5.0))
            if thread.is_alive():
                self._left_behind.append(thread)

    def _replace(self, *, probe: bool) -> None:
        thread = threading.Thread(
            target=self._main, args=(probe,), name=f"mmseek-worker-{self._model.name}", daemon=True
        )
        self._thread = thread
        thread.start()

    def _mine(self) -> bool:
        return self._thread is threading.current_thread()

    def _main(self, probe: bool) -> None:
        """A worker thread's life."""
        running: Round[Req, Out] | None = None
        try:
            if probe and not self._probe():
                return
            while (running := self._next_round(self._mine)) is not None:
                self._run_round(running)
                if self._broken >= _BROKEN_ROUNDS:
                    self._lost(running, "batch after batch fails", None)
                    return
                running = None
        except BaseException as error:  # noqa: BLE001 - whatever ends the thread, its requests must be told
            if self._mine():
                self._lost(running, "its thread ended", error)

    def _probe(self) -> bool:
        """Wait a little, then see whether the model answers at all; if not, this thread is lost in turn."""
        wait = self._options.backoff_seconds * 2 ** (self._restarts - 1)
        if self._stop.wait(min(wait, _LONGEST_BACKOFF)):
            return False
        round_ = self.begin([])
        try:
            answered = sum(1 for _ in self._model.stream([self._model.probe])) == 1
            failure: Exception | None = None
        except Exception as error:  # noqa: BLE001 - a model that cannot answer is lost, whatever it raises
            answered, failure = False, error
        if not self._mine():
            return False
        self._round = None
        if not answered:
            self._lost(round_, "it does not answer", failure)
            return False
        self._broken, self.state = 0, "ready"
        _log.info("worker_ready", model=self._model.name)
        return True

    def _run_round(self, running: Round[Req, Out]) -> None:
        began = time.monotonic()
        self._run(running, running.tickets)
        if not self._mine():
            # Replaced meanwhile: for this round, whose requests were told, or while the round before was ending.
            self._fail(running.tickets, WorkerLost(f"the {self._model.name}: its thread was replaced"))
            return
        self._round = None
        took = max(time.monotonic() - began, 1e-6)
        speed = sum(ticket.cost for ticket in running.tickets) / took
        self.speed = 0.8 * self.speed + 0.2 * speed if self.speed else speed
        self._metrics.batch_seconds.labels(self._model.name).observe(took)
        if running.answered:
            self._restarts = self._broken = 0
        else:
            self._broken += 1

    def _run(self, running: Round[Req, Out], tickets: Sequence[Ticket[Req, Out]]) -> None:
        """Give tickets to the model; those that it raised on are tried in halves."""
        wanted = [ticket for ticket in tickets if not ticket.group.future.done()]
        done = 0
        failure: Exception
        try:
            for outcome in self._model.stream([ticket.request for ticket in wanted]):
                if not self._mine():
                    return
                self._answer(wanted[done], outcome)
                done += 1
                running.answered += 1
                running.progress = time.monotonic()
            if done == len(wanted):
                running.answered += not wanted
                return
            failure = MmseekError(f"the {self._model.name} gave {done} outcomes for {len(wanted)} items")
        except Exception as error:  # noqa: BLE001 - one bad item never kills the rest
            failure = error
        if not self._mine():
            return
        running.progress = time.monotonic()
        self._blame(running, wanted[done:], failure)

    def _blame(self, running: Round[Req, Out], rest: Sequence[Ticket[Req, Out]], failure: Exception) -> None:
        out_of_memory = is_out_of_memory(failure)
        if out_of_memory:
            free_cached_memory()
        half = len(rest) // 2
        if half:
            _log.warning("batch_halved", model=self._model.name, items=len(rest), error=type(failure).__name__)
            for part in (rest[:half], rest[half:]):
                self._run(running, part)
        elif rest:
            if out_of_memory:
                failure = EncodeError("this item does not fit into memory: leave it out or make it smaller")
            running.answered += isinstance(failure, MmseekError)  # which a sound model raises too
            self._fail(rest, failure)

    def _lost(self, running: Round[Req, Out] | None, why: str, error: BaseException | None) -> None:
        """The worker is gone: tell its requests, and replace it unless that was tried too often."""
        with self._lock:
            self._restarts += 1
            self._round, self._broken = None, 0
            final = self._restarts > self._options.max_restarts
            self.state = "failed" if final else "restarting"
            if final:
                self._thread = None  # whatever it still answers is ignored
        self._metrics.worker_lost.labels(self._model.name).inc()
        _log.error("worker_lost", model=self._model.name, why=why, restarts=self._restarts, exc_info=error)
        if not final and not self._stop.is_set():
            self._replace(probe=True)
        self._fail(running.tickets if running is not None else (), WorkerLost(f"the {self._model.name}: {why}"))

    def _watch(self) -> None:
        """Sleep until the running round has had no outcome for too long."""
        limit = self._options.stuck_seconds
        sleep = limit
        while not self._stop.wait(sleep) and self.state != "failed":
            running = self._round
            sleep = limit if running is None else running.progress + limit - time.monotonic()
            if running is not None and sleep <= 0:
                thread = self._thread
                assert thread is not None
                self._left_behind.append(thread)
                self._lost(running, f"no outcome for {limit:g} s", None)
                sleep = limit
