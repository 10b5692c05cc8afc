"""Open handles: at most so many, each lent to any number of threads, none closed while it is lent."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from mmseek.api.server.errors import CollectionInUse, ServerBusy


class Closing(Protocol):
    """What can be closed."""

    def close(self) -> None: ...


H = TypeVar("H", bound=Closing)

_PATIENCE = 30.0


@dataclass(slots=True)
class _Held(Generic[H]):
    handle: H
    users: int = 0


class Handles(Generic[H]):
    """A bounded pool of handles by name, for any number of threads.

    Opening and closing happen outside the lock, so that a slow disk holds up only those who want the same name. Nobody
    lends two at a time: waiting for room therefore ends.

    Args:
        most: open at a time.
        patience: seconds to wait for room, or for the last user of what is to be taken away.
    """

    def __init__(self, most: int, patience: float = _PATIENCE) -> None:
        self._most = most
        self._patience = patience
        self._changed = threading.Condition()
        self._open: OrderedDict[str, _Held[H]] = OrderedDict()  # the one asked for last is at the end
        self._busy: set[str] = set()  # being opened, closed or taken away: nobody else touches these

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def lend(self, name: str, opened: Callable[[], H]) -> Iterator[H]:
        """The handle of this name, opened if it is not; it stays open until the block ends.

        Raises:
            ServerBusy: as many as may be open are all in use, and stayed so.
        """
        held = self._take(name, opened)
        try:
            yield held.handle
        finally:
            with self._changed:
                held.users -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Closed, and nobody opens it until the block ends.

        Raises:
            CollectionInUse: somebody has it, and kept it.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._is_free(name), self._patience):
                raise CollectionInUse(f"the collection {name!r} is in use: try again when its requests are done")
            self._busy.add(name)
            held = self._open.pop(name, None)
        try:
            if held is not None:
                held.handle.close()
            yield
        finally:
            self._done(name)

    def close(self) -> None:
        """Close all of them; those that are lent too, for nobody works any more."""
        with self._changed:
            every, self._open = list(self._open.values()), OrderedDict()
        for held in every:
            held.handle.close()

    def _take(self, name: str, opened: Callable[[], H]) -> _Held[H]:
        end = time.monotonic() + self._patience
        while True:
            with self._changed:
                self._changed.wait_for(lambda: name not in self._busy, max(end - time.monotonic(), 0))
                held = self._open.get(name)
                if held is not None:
                    held.users += 1
                    self._open.move_to_end(name)
                    return held
                if name not in self._busy and len(self._open) + len(self._busy) < self._most:
                    self._busy.add(name)
                    break
                idle = self._idle()
                if idle is None:
                    if time.monotonic() >= end or not self._changed.wait(end - time.monotonic()):
                        raise ServerBusy(f"{self._most} collections are open and all are in use")
                    continue
                gone = self._open.pop(idle)
                self._busy.add(idle)
            try:
                gone.handle.close()
            finally:
                self._done(idle)
        return self._opened(name, opened)

    def _opened(self, name: str, opened: Callable[[], H]) -> _Held[H]:
        """Open what this thread has marked busy, and lend it to the thread."""
        try:
            held = _Held(opened(), 1)
        except BaseException:
            self._done(name)
            raise
        with self._changed:
            self._open[name] = held
        self._done(name)
        return held

    def _is_free(self, name: str) -> bool:
        held = self._open.get(name)
        return name not in self._busy and (held is None or held.users == 0)

    def _idle(self) -> str | None:
        """What was not asked for longest of those that nobody has."""
        return next((name for name, held in self._open.items() if not held.users), None)

    def _done(self, name: str) -> None:
        with self._changed:
            self._busy.discard(name)
            self._changed.notify_all()
