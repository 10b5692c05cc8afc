"""Whether a page of another origin sent a request that browsers let any page send: a form."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import urlsplit

from fastapi import Request

from mmseek.api.server.errors import CrossOrigin


def refuse_other_origins(request: Request, allowed: Collection[str]) -> None:
    """Let programs and pages of this server through, and those of the allowed origins.

    Raises:
        CrossOrigin: a browser says that the request comes from elsewhere.
    """
    origin = request.headers.get("origin")
    if origin is None:
        if request.headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
            return
    elif origin in allowed or urlsplit(origin).netloc.lower() == request.headers.get("host", "").lower():
        return
    raise CrossOrigin("a page of another origin may not send forms here: the operator allows it with cors_origins")
