"""What documents sent as a form have in common: its description, and pictures that come without items."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

# In the terms of OpenAPI.
ITEMS_FORM: Final[dict[str, Any]] = {
    "schema": {
        "type": "object",
        "properties": {
            "items": {"type": "string", "format": "binary", "description": "a JSONL file"},
            "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
        },
    }
}


def lines_of_files(names: Sequence[str]) -> bytes:
    """An item a file, its name being its id and its picture."""
    return "".join(json.dumps({"id": name, "image": name}) + "\n" for name in names).encode()
