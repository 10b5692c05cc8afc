"""The files of the page, read once from the package: a request names one of them or nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final

# Scripts, styles and requests of this server only, none of them inline; pictures besides as blobs, before they are sent
# and where a key has to go with the request. W3C, Content Security Policy Level 3.
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
PAGE_HEADERS: Final[Mapping[str, str]] = MappingProxyType(
    {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}
)
_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the page, and the tag by which a browser knows that its own copy is the same."""

    data: bytes
    media_type: str
    etag: str


PAGE: Final = "index.html"
# The same page for a server of several collections, among them one without a name or not: it must know before it asks.
PAGE_OF_SEVERAL: Final = "several.html"
PAGE_BESIDE_OWN: Final = "beside-own.html"
_ROOT: Final = b'<html lang="en"'
_MARKS: Final = {PAGE_OF_SEVERAL: b"named", PAGE_BESIDE_OWN: b"own"}


@cache
def assets() -> Mapping[str, Asset]:
    """All files by their name. Whatever is not among them does not exist: no path is ever built from a request."""
    folder = files("mmseek.api.web") / "static"
    found = {}
    for file in folder.iterdir():
        kind = _TYPES.get(file.name.rpartition(".")[2])
        if kind is not None:
            found[file.name] = _asset(file.read_bytes(), kind)
    page = found[PAGE].data
    for name, mark in _MARKS.items():
        found[name] = _asset(page.replace(_ROOT, _ROOT + b' data-collections="' + mark + b'"', 1), _TYPES["html"])
    return MappingProxyType(found)


def _asset(data: bytes, kind: str) -> Asset:
    return Asset(data, kind, f'"{hashlib.sha256(data).hexdigest()[:32]}"')
