"""Connections that do nothing: how many there may be, and for how long.

Uvicorn closes a connection that has had its answer and asks nothing more, but one that never asks anything, or sends
its headers a byte a minute, may stay for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.auto import AutoHTTPProtocol

_BASE: Final[Any] = AutoHTTPProtocol  # with httptools, if that is installed; typed as a factory

PARSER: Final[str] = _BASE.__module__.rpartition(".")[2].partition("_")[0]


def protocol_class(seconds: float) -> type[asyncio.Protocol]:
    """The protocol of connections that are closed where no request begins for this long."""

    class Patient(_BASE):  # type: ignore[misc]
        """Uvicorn's own, and a look at each connection now and then."""

        _look: asyncio.TimerHandle
        _seen: object = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._look = self.loop.call_later(seconds, self._close_if_idle)

        def connection_lost(self, exc: Exception | None) -> None:
            self._look.cancel()
            super().connection_lost(exc)

        def _close_if_idle(self) -> None:
            """Close it if it had no request when it was looked at last, and none has begun since."""
            # Of the request before: its headers were whole. None before the first.
            now = self.cycle
            if (now is None or now.response_complete) and now is self._seen:
                self.transport.close()
                return
            self._seen = now if now is None or now.response_complete else self
            self._look = self.loop.call_later(seconds, self._close_if_idle)

    return Patient


def raise_file_limit() -> int | None:
    """Let this process hold as many connections as the system allows; the number of files, or None where unknown."""
    try:
        import resource
    except ModuleNotFoundError:  # Windows, which has no such limit
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return hard
    return soft
