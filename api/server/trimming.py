"""Gives memory that requests have left behind back to the system, from time to time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mmseek.models.allocator import give_back_free_memory


@contextmanager
def trimming(seconds: float, give_back: Callable[[], object] = give_back_free_memory) -> Iterator[None]:
    """While the block runs, a thread of its own gives free memory back.

    Args:
        seconds: between two times; 0 for never.
        give_back: does it.
    """
    if not seconds:
        yield
        return
    over = threading.Event()

    def trim() -> None:
        while not over.wait(seconds):
            give_back()

    thread = threading.Thread(target=trim, name="mmseek-trimming", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
