"""Thumbnails that were made lately, within a bound of bytes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from mmseek.api.pages.thumbnails import SmallCopy


class SmallCopies:
    """Keeps what was asked for last. Used from several threads; the lock is never held while a picture is decoded.

    Args:
        max_bytes: of all kept files together.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, SmallCopy] = OrderedDict()
        self._bytes = 0

    @property
    def bytes(self) -> int:
        """How many are kept."""
        return self._bytes

    def get(self, name: str, make: Callable[[], SmallCopy]) -> SmallCopy:
        """The copy of this name, made if it is not kept; what `make` raises goes on to the caller."""
        with self._lock:
            kept = self._kept.get(name)
            if kept is not None:
                self._kept.move_to_end(name)
                return kept
        made = make()
        with self._lock:
            if name not in self._kept and len(made.data) <= self._max_bytes:
                self._kept[name] = made
                self._bytes += len(made.data)
                while self._bytes > self._max_bytes:
                    self._bytes -= len(self._kept.popitem(last=False)[1].data)
        return made
