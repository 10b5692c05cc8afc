"""Pillow's warnings about odd files, kept from the caller: what matters is raised, the rest is nobody's business."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

_lock = threading.Lock()
_users = 0
_filter: Any = None


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Ignore warnings that come from inside Pillow while the block runs, in any number of threads.

    `warnings.catch_warnings` swaps the list of filters for the whole process and puts it back, which is wrong as soon
    as two threads overlap. One filter is put in by the first thread to come and taken out by the last to leave.
    """
    global _users, _filter
    with _lock:
        _users += 1
        if _users == 1:
            warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
            _filter = warnings.filters[0]
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                # Somebody else's catch_warnings may have put the list back already.
                with suppress(ValueError):
                    warnings.filters.remove(_filter)  # type: ignore[attr-defined]
