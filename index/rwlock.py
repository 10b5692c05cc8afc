"""Many searches at a time, or one change."""

from __future__ import annotations

import threading


class ReadWriteLock:
    """Shared or exclusive; who waits to change goes before new readers, and may go on as a reader without a gap."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._writing = False
        self._waiting = 0

    def acquire_shared(self) -> None:
        with self._changed:
            while self._writing or self._waiting:
                self._changed.wait()
            self._readers += 1

    def acquire_exclusive(self) -> None:
        with self._changed:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: not self._writing and not self._readers)
                self._writing = True
            finally:
                self._waiting -= 1

    def downgrade(self) -> None:
        """From exclusive to shared; no other change comes between."""
        with self._changed:
            self._writing = False
            self._readers += 1
            self._changed.notify_all()

    def release(self) -> None:
        """Give back what this thread holds, shared or exclusive."""
        with self._changed:
            if self._writing:
                self._writing = False
            else:
                self._readers -= 1
            if not self._readers:  # as long as there are others, nobody can go on who could not before
                self._changed.notify_all()
