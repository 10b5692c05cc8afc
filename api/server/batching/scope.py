"""Whose work this is: the client, when it stops waiting, and what to drop if it hangs up.

Set for a request by a middleware and read wherever work is queued, on the event loop as in threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(slots=True)
class RequestScope:
    """One request's claim on the models.

    Args:
        client: requests of one client share its turn; see `FairQueue`.
        deadline: on the monotonic clock; what has not begun by then is dropped.
        seconds: what `renew` gives.
    """

    client: str
    deadline: float
    seconds: float = 60.0
    _drops: list[Callable[[], None]] = field(default_factory=list)
    _gone: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def renew(self) -> None:
        """Start the time anew: for work in pieces, each of which shows that there is progress."""
        self.deadline = time.monotonic() + self.seconds

    def on_gone(self, drop: Callable[[], None]) -> None:
        """Call this when the client hangs up; at once if it has."""
        with self._lock:
            if not self._gone:
                self._drops.append(drop)
                return
        drop()

    def client_gone(self) -> None:
        """Drop what is queued for this request. Safe to call from any thread."""
        with self._lock:
            self._gone, drops = True, self._drops[:]
            self._drops.clear()
        for drop in drops:
            drop()


_CURRENT: ContextVar[RequestScope | None] = ContextVar("mmseek_request_scope", default=None)
_NOBODY_SECONDS = 24 * 3600.0


def current_scope() -> RequestScope:
    """The scope of the request being answered; outside of any, one that waits for a day."""
    return _CURRENT.get() or RequestScope("nobody", time.monotonic() + _NOBODY_SECONDS, _NOBODY_SECONDS)


def enter_scope(scope: RequestScope) -> None:
    """Make this the scope of the running task and of the threads that it starts through a lane."""
    _CURRENT.set(scope)
