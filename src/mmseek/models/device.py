"""Which device a model runs on, and what to do when its memory is full. The one place that asks torch about devices."""

from __future__ import annotations

import os
import sys
import threading

from mmseek.config import settings
from mmseek.errors import ConfigError

__all__ = ["free_cached_memory", "is_out_of_memory", "pick_device", "usable_cores", "use_one_core"]


_THREADS = threading.Lock()


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


def usable_cores() -> int:
    """How many cores this process may use, at most 8: more threads than that do not speed up decoding one stream."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(cores or 1, 8)
