"""Cursors: where a list goes on, in a form that says nothing to a client and holds only for the list it came from."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Final

from mmseek.api.server.errors import BadCursor

_LONGEST: Final = 200


def make_cursor(place: int, *of: str | None) -> str:
    """The cursor of a place in a list.

    Args:
        place: a number from 0.
        of: what the list is of: its collection, its filter. Whoever goes on must ask for the same.
    """
    return base64.urlsafe_b64encode(json.dumps([place, _tag(of)]).encode()).decode().rstrip("=")


def read_cursor(cursor: str | None, *of: str | None) -> int:
    """The place; 0 without a cursor.

    Raises:
        BadCursor: it is none, or of another list.
    """
    if cursor is None:
        return 0
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        place, tag = json.loads(base64.urlsafe_b64decode(padded) if len(cursor) <= _LONGEST else b"")
        sound = type(place) is int and 0 <= place < 2**63
    except (ValueError, TypeError, RecursionError):
        sound, tag = False, None
    if not sound or tag != _tag(of):
        raise BadCursor("the cursor is not one of this list: begin without one, and keep filter and collection")
    return int(place)


def _tag(of: tuple[str | None, ...]) -> str:
    return hashlib.blake2b(json.dumps(of).encode(), digest_size=6).hexdigest()
