"""Errors for Voyage's own client, which reads their sentence from `detail` and calls anything else invalid.

Without it a wrong key and a busy server are the same `APIError` to a program, and a busy server is not asked again.
It sends no header by which it could be told from others, so its addresses are.
Source: `voyageai` 0.5, `APIRequestor.handle_error_response`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from starlette.datastructures import MutableHeaders

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Those that it asks, below each address that it may be given as the base.
PATHS: Final = frozenset(
    f"{base}/{name}" for base in ("", "/v1") for name in ("embeddings", "multimodalembeddings", "rerank")
)
_FIRST_ERROR: Final = 400


class VoyageErrors:
    """Adds `detail` to the errors at the addresses that Voyage's client asks; the rest of their shape is the one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http" or scope["path"] not in PATHS:
            await self.app(scope, receive, send)
            return
        start: Message | None = None
        body = b""

        async def told(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start" and message["status"] >= _FIRST_ERROR:
                start = message
                return
            if start is None:
                await send(message)
                return
            body += message.get("body", b"")
            if message.get("more_body"):
                return
            whole = _with_detail(body)
            MutableHeaders(scope=start)["content-length"] = str(len(whole))
            await send(start)
            await send({"type": "http.response.body", "body": whole})

        await self.app(scope, receive, told)


def _with_detail(body: bytes) -> bytes:
    try:
        answer = json.loads(body)
        return json.dumps({**answer, "detail": answer["error"]["message"]}).encode()
    except (ValueError, KeyError, TypeError):  # not an error of ours: a health check's, say
        return body
