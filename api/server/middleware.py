"""Around every request: a number to find it by in the log, one line of log, and a last catch of whatever breaks."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

import structlog
from starlette.datastructures import MutableHeaders

from mmseek.api.server.errors import unexpected_answer
from mmseek.api.server.security.headers import add_security_headers

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from mmseek.api.server.metrics import Metrics

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_log = structlog.get_logger("mmseek.api")


class RequestLog:
    """Gives each request an id, sent back as `X-Request-ID`; logs and counts its outcome; answers bugs with a 500."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0
        began = time.perf_counter()
        self._metrics.in_flight.inc()

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                add_security_headers(headers)
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception as error:  # noqa: BLE001 - whatever a bug raises, one request is all that it ends
            _log.error("request_broke", request_id=request_id, exc_info=error)
            if not status:
                await unexpected_answer(request_id)(scope, receive, send_with_id)
        finally:
            self._metrics.in_flight.dec()
            self._tell(scope, status, time.perf_counter() - began)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        state, method = scope["state"], scope["method"]
        # The pattern of the route, not the path: a metric for each document would have no end.
        route = getattr(scope.get("route"), "path", "none")
        known = method if method in _METHODS else "other"
        self._metrics.requests.labels(route, known, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        key = state.get("key")
        _log.info(
            "request",
            request_id=state["request_id"],
            method=method,
            path=scope["path"],
            status=status,
            ms=round(seconds * 1000, 1),
            **({} if key is None else {"key": key.name}),
            **({"trace_id": state["trace_id"]} if "trace_id" in state else {}),
        )
