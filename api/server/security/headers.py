"""Headers of every answer that a route does not set itself: nothing is framed, sniffed, scripted or told."""

from __future__ import annotations

from typing import Final

from starlette.datastructures import MutableHeaders

_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


def add_security_headers(headers: MutableHeaders) -> None:
    """Add those that are not there."""
    for name, value in _HEADERS.items():
        headers.setdefault(name, value)
