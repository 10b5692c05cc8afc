"""The gate before every route: no key, no answer. What it lets through unasked is named here, and nothing else is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import structlog
from starlette.datastructures import Headers

from mmseek.api.server.errors import error_answer
from mmseek.api.server.security.keys import ApiKey, KeyRing, Scope
from mmseek.api.server.security.rates import RateLimiter

if TYPE_CHECKING:
    from starlette.responses import JSONResponse
    from starlette.types import ASGIApp, Receive, Send
    from starlette.types import Scope as Connection

# The search page holds nothing of the collection: it must load to ask for a key.
OPEN: Final = frozenset({"/", "/health", "/health/live", "/health/ready"})
OPEN_FOLDER: Final = "/web/"
_ADMIN: Final = frozenset({"/metrics"})
# Of what is asked by POST, these change nothing.
_ASKS: Final = re.compile(
    r"/v1(/collections/[^/]+)?/(search|search/upload|recommend|ask|documents/get)\Z"
    r"|(/v1)?/(embeddings|multimodalembeddings|embed|rerank|score)\Z|/v2/(embed|rerank)\Z"
)
_MANAGES: Final = re.compile(r"/v1/(collections(/[^/]+)?|aliases(/[^/]+)?|(collections/[^/]+/)?compact)\Z")

_audit = structlog.get_logger("mmseek.audit")


def needed_scope(method: str, path: str) -> Scope:
    """How far a key must reach for this request. What is not known here to be harmless needs `write`."""
    if path in _ADMIN:
        return "admin"
    if method in ("GET", "HEAD", "OPTIONS"):
        return "read"
    if _MANAGES.match(path):
        return "admin"
    return "read" if method == "POST" and _ASKS.match(path) else "write"


class KeyCheck:
    """Answers 401 without a known key, 403 if it does not reach far enough, 429 if it asks too often."""

    def __init__(self, app: ASGIApp, keys: KeyRing) -> None:
        self.app = app
        self._keys = keys
        self._rates = RateLimiter()

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http" or _is_open(scope["method"], scope["path"]):
            await self.app(scope, receive, send)
            return
        key = self._keys.find(_secret(Headers(scope=scope)))
        needed = needed_scope(scope["method"], scope["path"])
        state = scope.setdefault("state", {})
        refused = self._refusal(key, needed)
        if key is not None:
            state["key"] = key
        if refused is not None or needed != "read":
            _audit.info(
                "refused" if refused is not None else "allowed",
                request_id=state.get("request_id"),
                key=None if key is None else key.name,
                client=(scope.get("client") or ("",))[0],
                method=scope["method"],
                path=scope["path"],
                scope=needed,
            )
        await (refused or self.app)(scope, receive, send)

    def _refusal(self, key: ApiKey | None, needed: Scope) -> JSONResponse | None:
        if key is None:
            message = "this needs an API key: send it as Authorization: Bearer KEY"
            return error_answer(401, "unauthorized", message, {"WWW-Authenticate": "Bearer"})
        if not key.allows(needed):
            return error_answer(403, "forbidden", f"this needs a key of scope {needed}, and yours has {key.scope}")
        wait = self._rates.take(key.name, key.per_minute)
        if wait:
            message = f"this key may ask {key.per_minute} times a minute: try again in {wait} s"
            return error_answer(429, "rate_limited", message, {"Retry-After": str(wait)})
        return None


def _is_open(method: str, path: str) -> bool:
    return path in OPEN or (path.startswith(OPEN_FOLDER) and method in ("GET", "HEAD"))


def _secret(headers: Headers) -> str:
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and value:
        return value.strip()
    return headers.get("x-api-key", "") or headers.get("api-key", "")
