"""Work on the event loop that one client waits for: ended when the client hangs up, or when it waited too long."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from starlette.responses import Response

from mmseek.api.server.batching.scope import current_scope
from mmseek.api.server.errors import ClientGone, DeadlineExceeded, public_error
from mmseek.errors import MmseekError

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

T = TypeVar("T")

ServerEvent: TypeAlias = tuple[str, Mapping[str, Any]]


async def for_client(work: Awaitable[T]) -> T:
    """Await work as long as its request's client does; then it is cancelled, and what it holds is let go.

    Raises:
        ClientGone: the client hung up.
        DeadlineExceeded: the request's time is over.
    """
    scope = current_scope()
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    gone = False

    def drop() -> None:
        nonlocal gone
        gone = True
        if not loop.is_closed():
            loop.call_soon_threadsafe(task.cancel)

    scope.on_gone(drop)
    try:
        async with asyncio.timeout(scope.deadline - time.monotonic()):
            return await task
    except TimeoutError as error:
        raise DeadlineExceeded("the time of the request is over") from error
    except asyncio.CancelledError:
        if gone:
            raise ClientGone("the client hung up") from None
        raise
    finally:
        task.cancel()  # does nothing to what is done


class EventStream(Response):
    """Server-sent events (HTML standard, 9.2), each with a name and a JSON object.

    An error after the first byte is an event too, `error`, for the status has been sent by then.

    Args:
        first: the first event.
        events: those after it, made while they are sent; closed at the end, or when the client hangs up.
        silence: seconds after which a client is told that it is still waited for.
    """

    media_type = "text/event-stream"

    def __init__(self, first: ServerEvent, events: AsyncGenerator[ServerEvent, None], silence: float = 15.0) -> None:
        # The second header keeps nginx from gathering events until its buffer is full.
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self.silence = silence
        self._first = first
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - the watcher reads
        """Send all of it."""
        async with aclosing(self._events):
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            try:
                await for_client(self._pump(send))
            except ClientGone:
                return
            except MmseekError as error:
                await send(_body("error", public_error(error, scope["state"]["request_id"]).body))
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _pump(self, send: Send) -> None:
        await send(_body(*self._first))
        waiting = asyncio.ensure_future(anext(self._events, None))
        try:
            while True:
                done, _ = await asyncio.wait({waiting}, timeout=self.silence)
                if not done:
                    # A comment: proxies take a connection on which nothing is said for one that is dead.
                    await send({"type": "http.response.body", "body": b": waiting\n\n", "more_body": True})
                    continue
                event = waiting.result()
                if event is None:
                    return
                await send(_body(*event))
                waiting = asyncio.ensure_future(anext(self._events, None))
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)


def _body(name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    # JSON escapes line ends, so that one line holds all; and halves of surrogate pairs, which UTF-8 cannot say.
    event = f"event: {name}\ndata: {json.dumps(data)}\n\n"
    return {"type": "http.response.body", "body": event.encode(), "more_body": True}
