"""Threads that work beside the event loop, so that a slow encoder never stops the server from answering."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from mmseek.api.server.errors import ServerBusy

P = ParamSpec("P")
R = TypeVar("R")


class Lane:
    """A queue of calls and the threads that work it off, in order. Used from the event loop's thread only.

    Args:
        name: of the threads.
        threads: how many calls run at a time.
        max_waiting: calls that may be in the lane, running ones included, before more are refused.
    """

    def __init__(self, name: str, *, threads: int, max_waiting: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._max_waiting = max_waiting
        self._inside = 0

    async def run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a call on a thread of the lane; its result or its error is the caller's alone.

        Raises:
            ServerBusy: too many calls are in the lane.
        """
        if self._inside >= self._max_waiting:
            raise ServerBusy(f"{self._inside} requests are waiting already")
        self._inside += 1
        context = contextvars.copy_context()  # the call's work in other queues is still this request's
        future = asyncio.get_running_loop().run_in_executor(self._pool, lambda: context.run(call, *args, **kwargs))
        future.add_done_callback(self._leave)
        return await future

    def close(self) -> None:
        """Let the calls inside end, then end the threads."""
        self._pool.shutdown(wait=True)

    def _leave(self, _: asyncio.Future[R]) -> None:
        self._inside -= 1
