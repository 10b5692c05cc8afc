"""Answers that a client may keep: with the tag of what they hold, and empty where the client has it already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from fastapi.responses import Response

if TYPE_CHECKING:
    from fastapi import Request


def has_current(request: Request, etag: str) -> bool:
    """Whether the client's copy is this one: `If-None-Match`, compared weakly (RFC 9110, 13.1.2)."""
    given = request.headers.get("if-none-match", "")
    tags = {tag.strip().removeprefix("W/") for tag in given.split(",")}
    return etag in tags or "*" in tags


def not_modified(etag: str, headers: Mapping[str, str]) -> Response:
    """304: the client's copy is good."""
    return Response(status_code=304, headers={**headers, "ETag": etag})


def answer_with_tag(request: Request, data: bytes, media_type: str, etag: str, headers: Mapping[str, str]) -> Response:
    """The file, or 304 where the client has it."""
    if has_current(request, etag):
        return not_modified(etag, headers)
    return Response(data, media_type=media_type, headers={**headers, "ETag": etag})
