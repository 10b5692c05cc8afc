"""How often a key may ask."""

from __future__ import annotations

import math
import time
from collections.abc import Callable


class RateLimiter:
    """A token bucket a key: a minute's worth may come at once, then at the rate. Used on the event loop only.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, name: str, per_minute: int) -> int:
        """Count one request: 0 if it may pass, else the seconds after which one may."""
        if not per_minute:
            return 0
        now = self._clock()
        tokens, before = self._buckets.get(name, (float(per_minute), now))
        tokens = min(tokens + (now - before) * per_minute / 60, float(per_minute))
        passes = tokens >= 1
        self._buckets[name] = (tokens - passes, now)
        return 0 if passes else max(math.ceil((1 - tokens) * 60 / per_minute), 1)
