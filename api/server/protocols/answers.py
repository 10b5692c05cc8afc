"""JSON answers with many numbers, written by pydantic's Rust instead of `json`."""

from __future__ import annotations

from typing import Any

from fastapi.responses import JSONResponse
from pydantic_core import to_json


class NumbersResponse(JSONResponse):
    """As `JSONResponse`, several times as fast for lists of floats."""

    def render(self, content: Any) -> bytes:
        """The bytes of the body."""
        return to_json(content)
