"""Stops reading a request's body once it is too long or stands still: no client fills the memory or keeps a place.

Nor do many together: what has come of requests that are not answered yet is bounded too.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException

from mmseek.api.server.errors import error_answer

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Without it a server would read the rest of the body, to throw it away.
_CLOSE: Final = {"Connection": "close"}
_TOO_MUCH_HELD: Final = "the bodies of the requests being answered fill the room that there is: try again in 1 s"


class BodyLimit:
    """Answers 413 to bodies over the limit: by their declared length at once, else while they come in.

    Frameworks have such a limit too, but answer in a shape of their own. A body of which nothing comes for a while is
    answered 408.

    Args:
        max_bytes: of a body.
        max_held: of the bodies, so far, of all requests that are not answered yet; a request alone may have more.
        seconds: that its next piece may take.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, max_held: int, seconds: float) -> None:
        self.app = app
        self._max_bytes = max_bytes
        self._max_held = max_held
        self._seconds = seconds
        self._held = 0  # used on the event loop only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        key = scope.get("state", {}).get("key")
        most = min(key.max_body_bytes or self._max_bytes, self._max_bytes) if key is not None else self._max_bytes
        message_over = f"the body has more than the {most} bytes that are taken: send less in one request"
        if _declared(scope) > most:
            await error_answer(413, "body_too_large", message_over, _CLOSE)(scope, receive, send)
            return
        taken = 0
        whole = False

        async def counted() -> Message:
            nonlocal taken, whole
            if whole:  # what comes now is that the client hangs up, whenever it does
                return await receive()
            message = await self._next_piece(receive)
            if message["type"] == "http.request":
                size = len(message.get("body", b""))
                taken += size
                self._held += size
                whole = not message.get("more_body")
                if taken > most:
                    raise HTTPException(413, message_over, _CLOSE)  # which the framework lets through while it parses
                if self._held > max(self._max_held, taken):
                    raise HTTPException(429, _TOO_MUCH_HELD, {**_CLOSE, "Retry-After": "1"})
            return message

        try:
            await self.app(scope, counted, send)
        finally:
            self._held -= taken

    async def _next_piece(self, receive: Receive) -> Message:
        try:
            async with asyncio.timeout(self._seconds):
                return await receive()
        except TimeoutError:
            message = f"nothing of the body came for {self._seconds:g} s: send the request again"
            raise HTTPException(408, message, _CLOSE) from None


def _declared(scope: Scope) -> int:
    """The length that the client announces; servers refuse a header that is no number."""
    values = [value for name, value in scope["headers"] if name == b"content-length"]
    return int(values[0]) if values and values[0].isdigit() else 0
