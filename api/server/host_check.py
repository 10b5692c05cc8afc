"""Refuses requests that were meant for another host.

A page from elsewhere can point its own name at 127.0.0.1 and then read what only this machine should see (DNS
rebinding). Its requests still carry that name.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers

from mmseek.api.server.errors import error_answer

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})


class HostCheck:
    """Answers only requests whose `Host` is one of these; brackets around IPv6 belong to the name."""

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self.app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "http" and _host(scope) not in self._hosts:
            refused = error_answer(421, "misdirected_request", "this server does not answer under that host name")
            await refused(scope, receive, send)
            return
        await self.app(scope, receive, send)


def _host(scope: Scope) -> str:
    """The name of the Host header, without its port."""
    host = Headers(scope=scope).get("host", "").lower()
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
