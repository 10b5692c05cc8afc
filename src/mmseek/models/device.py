"""Which device a model runs on, and what to do when its memory is full. The one place that asks torch about devices."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

from mmseek.config import settings
from mmseek.errors import ConfigError

__all__ = [
    "BACKENDS",
    "PRECISIONS",
    "asked_backend",
    "asked_precision",
    "calm_openmp",
    "free_cached_memory",
    "is_out_of_memory",
    "memory_bytes",
    "pick_backend",
    "pick_device",
    "pick_dtype",
    "usable_cores",
    "use_one_core",
]

PRECISIONS: Final = ("auto", "float32", "bfloat16", "float16")
BACKENDS: Final = ("auto", "torch", "openvino")

_THREADS = threading.Lock()


@dataclass(slots=True)
class _Asked:
    """What the caller of a loader asked for, and whether the loader looked at it."""

    name: str
    heeded: bool = False


_PRECISION: ContextVar[_Asked | None] = ContextVar("precision", default=None)


_BACKEND: ContextVar[_Asked | None] = ContextVar("backend", default=None)


@contextmanager
def asked_precision(name: str | None, what: str) -> Iterator[None]:
    """What is loaded inside runs in this precision: `float32`, `bfloat16`, `float16`, or by the device's own.

    Args:
        name: of the precision; None and `auto` leave it to the device.
        what: is loaded, for the error.

    Raises:
        ConfigError: there is no such precision, or what is loaded has one of its own.
    """
    _check_known("precision", name, PRECISIONS)
    with _asking(_PRECISION, name) as asked:
        yield
    if asked.name not in ("auto", "float32") and not asked.heeded:
        raise ConfigError(f"{what} runs in float32 only: leave out the precision {asked.name}")


@contextmanager
def asked_backend(name: str | None, what: str) -> Iterator[None]:
    """What is loaded inside is run by `torch` or `openvino`, or as the setting says.

    Args:
        name: of the backend; None and `auto` leave it to the setting, which families that know torch only pass over.
        what: is loaded, for the error.

    Raises:
        ConfigError: there is no such backend, or what is loaded is run by torch only.
    """
    _check_known("backend", name, BACKENDS)
    with _asking(_BACKEND, name) as asked:
        yield
    if asked.name == "openvino" and not asked.heeded:
        raise ConfigError(f"{what} is run by torch only: leave out the backend {asked.name}")


def pick_backend() -> str:
    """`torch` or `openvino`: as asked, else the setting."""
    asked = _BACKEND.get()
    if asked is not None:
        asked.heeded = True
    return settings().backend if asked is None or asked.name == "auto" else asked.name


def _check_known(kind: str, name: str | None, known: Sequence[str]) -> None:
    if name is not None and name not in known:
        raise ConfigError(f"there is no {kind} {name!r}: take one of {', '.join(known)}")


@contextmanager
def _asking(variable: ContextVar[_Asked | None], name: str | None) -> Iterator[_Asked]:
    asked = _Asked(name or "auto")
    token = variable.set(asked)
    try:
        yield asked
    finally:
        variable.reset(token)


def pick_dtype(device: str, *, usual: str | None = None) -> Any:
    """The torch type of a model's weights: as asked, else `usual`, else bfloat16 on CUDA and float32 elsewhere."""
    import torch

    asked = _PRECISION.get()
    name = usual or ("bfloat16" if device.startswith("cuda") else "float32")
    if asked is not None:
        asked.heeded = True
        name = name if asked.name == "auto" else asked.name
    return getattr(torch, name)


def pick_device(name: str | None = None) -> str:
    """The device to use: `name`, else the setting; `auto` is the first of CUDA, Apple's MPS and CPU that is there.

    Raises:
        ConfigError: the name is unknown or the device is not on this machine.
    """
    import torch

    wanted = settings(device=name).device if name is not None else settings().device
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if wanted == "auto":
        return "cuda" if cuda else "mps" if mps else "cpu"
    count = torch.cuda.device_count() if cuda else 0
    number = int(wanted.partition(":")[2] or 0)
    if (wanted.startswith("cuda") and number >= count) or (wanted == "mps" and not mps):
        raise ConfigError(f"the device {wanted} is not on this machine: use cpu or auto")
    return wanted


def memory_bytes(device: str) -> int | None:
    """The memory that models on this device share, in bytes, whoever uses it now; None where that cannot be asked."""
    import os

    if device.startswith("cuda"):
        import torch

        total: int = torch.cuda.get_device_properties(torch.device(device)).total_memory
        return total
    try:  # Apple's MPS shares the machine's memory
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch may help. Torch's CPU allocator raises a plain RuntimeError, hence the look at words."""
    if isinstance(error, MemoryError):
        return True
    words = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in words or "can't allocate memory" in words)


def free_cached_memory() -> None:
    """Give cached blocks of the accelerator back, so that a smaller batch finds one whole piece."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def use_one_core() -> None:
    """Let torch run this thread's operations in this thread alone; other threads, and later ones, keep their number.

    Torch keeps the number for each thread, and one for the process that a new thread starts with. Setting the first
    sets the second too, so a thread that ends at once sets that back.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return
    with _THREADS:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        restore = threading.Thread(target=torch.set_num_threads, args=(before,))
        restore.start()
        restore.join()


def calm_openmp(environment: MutableMapping[str, str]) -> bool:
    """Let the threads of one operation fall asleep after about 0.1 ms of waiting for one another.

    By default GNU's OpenMP, which torch's wheels for Linux bring, spins for some milliseconds. With a core for each
    thread that costs nothing; as soon as anything else wants a core, the threads that spin take the time of those that
    they wait for, and a text that needs 20 ms was seen to take seconds. To be called before torch is loaded, which
    reads it once.

    Args:
        environment: of this process. What the user has set there wins.

    Returns:
        Whether it takes effect.
    """
    if "torch" in sys.modules or "OMP_WAIT_POLICY" in environment or "GOMP_SPINCOUNT" in environment:
        return False
    environment["GOMP_SPINCOUNT"] = "2000"
    return True


def usable_cores() -> int:
    """How many cores this process may use, at most 8: more threads than that do not speed up decoding one stream."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, 8)
