"""Vectors that were made before, by what they were made of."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import Final

from mmseek._types import Encoded, EncodeRequest, Text

# What a vector's key, its entry in the table and the array around its numbers take.
_OVERHEAD: Final = 400


def request_key(request: EncodeRequest) -> bytes | None:
    """SHA-256 of side, instruction and content; None for a picture that is not in memory."""
    state = hashlib.sha256(f"{request.role}\n{request.instruction!r}\n".encode("utf-8", "surrogatepass"))
    for part in request.content.parts:
        if isinstance(part, Text):
            data, tag = part.text.encode("utf-8", "surrogatepass"), b"T"
        elif part.data is not None:
            data, tag = part.data, b"I"
        else:
            return None
        state.update(tag + len(data).to_bytes(8, "big"))
        state.update(data)
    return state.digest()


class VectorCache:
    """The least recently used go first. Errors are never kept.

    Args:
        max_bytes: of memory, about; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._entries: OrderedDict[bytes, Encoded] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes) -> Encoded | None:
        """What was put under this key, if it is still there."""
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
            return found

    def put(self, key: bytes, outcome: Encoded) -> None:
        """Keep an outcome, if it has a vector."""
        if outcome.vector is None or not self._max_bytes:
            return
        with self._lock:
            if key in self._entries:
                return
            self._entries[key] = outcome
            self._bytes += outcome.vector.nbytes + _OVERHEAD
            while self._bytes > self._max_bytes:
                _, dropped = self._entries.popitem(last=False)
                assert dropped.vector is not None
                self._bytes -= dropped.vector.nbytes + _OVERHEAD

    def __len__(self) -> int:
        return len(self._entries)
