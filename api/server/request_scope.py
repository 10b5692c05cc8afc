"""Around every request: whose work it is, when it is too late, and dropping it when the client hangs up."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from starlette.datastructures import Headers

from mmseek.api.server.batching.scope import RequestScope, enter_scope
from mmseek.api.server.errors import error_answer

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = "x-request-timeout"


class RequestScopes:
    """Gives each request its `RequestScope`, and ends its queued work as soon as the connection is closed.

    A client may ask for a nearer deadline than the server's with `X-Request-Timeout: SECONDS`.

    Args:
        seconds: the longest that a request's work may wait and run.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self.app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        seconds = _asked(Headers(scope=scope).get(HEADER), self._seconds)
        if seconds is None:
            refused = error_answer(400, "bad_request", f"{HEADER} must be a number of seconds above 0")
            await refused(scope, receive, send)
            return
        mine = RequestScope(_client(scope), time.monotonic() + seconds, seconds)
        enter_scope(mine)
        watcher: asyncio.Task[Message] | None = None

        async def watched() -> Message:
            """The body as it comes; after its end somebody must wait for the connection to close."""
            nonlocal watcher
            if watcher is not None:
                return await asyncio.shield(watcher)
            message = await receive()
            if message["type"] == "http.disconnect":
                mine.client_gone()
            elif not message.get("more_body"):
                watcher = asyncio.create_task(_wait_for_the_end(receive, mine))
            return message

        try:
            await self.app(scope, watched, send)
        finally:
            if watcher is not None:
                watcher.cancel()


async def _wait_for_the_end(receive: Receive, mine: RequestScope) -> Message:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            mine.client_gone()
            return message


def _asked(header: str | None, most: float) -> float | None:
    if header is None:
        return most
    try:
        seconds = float(header)
    except ValueError:
        return None
    return min(seconds, most) if seconds > 0 else None


def _client(scope: Scope) -> str:
    """Who shares a turn: the holder of a key, else an address."""
    key = scope.get("state", {}).get("key")
    return f"key {key.name}" if key is not None else f"address {(scope.get('client') or ('unknown',))[0]}"
