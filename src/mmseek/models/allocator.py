"""What GNU's malloc keeps of memory that nobody uses any more, and how it is made to keep less.

It has up to eight arenas a core, each with free pieces of its own, and gives free memory back to the system only where
it lies at an arena's end. Activations of models, megabytes that come and go in many threads, leave hundreds of
megabytes behind in this way, which count as the process's own. Source: mallopt(3), malloc_trim(3).
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["give_back_free_memory", "use_few_arenas"]

_ARENA_MAX: Final = -8  # M_ARENA_MAX of malloc.h


def use_few_arenas(environment: Mapping[str, str], cores: int) -> bool:
    """Let threads share at most `cores` arenas from now on; to be called before they are started.

    Args:
        environment: of this process. What the user has set there wins.
        cores: how many threads allocate at a time, about.

    Returns:
        Whether it takes effect; only GNU's C library has such a bound.
    """
    if "MALLOC_ARENA_MAX" in environment or "arena_max" in environment.get("GLIBC_TUNABLES", ""):
        return False
    limit = _function("mallopt")
    return limit is not None and bool(limit(_ARENA_MAX, max(cores, 1)))


def give_back_free_memory() -> bool:
    """Give whole pages of free memory back to the system; some milliseconds for some hundred megabytes.

    Returns:
        Whether any was; False too where the C library has no such call.
    """
    trim = _function("malloc_trim")
    return trim is not None and bool(trim(ctypes.c_size_t(0)))


def _function(name: str) -> Any:
    """A function of GNU's C library, or None where the process runs on another."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
