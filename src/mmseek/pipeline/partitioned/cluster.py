"""Ray, started for one run: on this machine's loopback alone, quiet, telling nobody anything, and gone afterwards."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmseek.errors import ConfigError, EngineError

__all__ = ["OBJECT_STORE_BYTES", "cluster", "quiet_ray"]

OBJECT_STORE_BYTES = 256 * 1024**2
_MIB = 1024**2


@contextmanager
def cluster(address: str | None, *, cpus: int, object_store_bytes: int = OBJECT_STORE_BYTES) -> Iterator[Any]:
    """A connection to Ray; the one that this process has already is used and left as it is.

    Args:
        address: of a cluster that runs; None to start one on this machine.
        cpus: workers at a time of one that is started.
        object_store_bytes: memory for what is between two workers, of one that is started.

    Raises:
        EngineError: Ray cannot be started or reached.
        ConfigError: Ray would be open to other machines.
    """
    _quieten()
    if address is None:
        _keep_to_loopback()
    with quiet_ray():
        import ray

    if ray.is_initialized():
        yield ray
        return
    folder: str | None = None
    options: dict[str, Any] = {"address": address}
    if address is None:
        # Short, because a Unix socket's path may have 107 bytes.
        folder = tempfile.mkdtemp(prefix="mmseek-")
        options = {
            "address": "local",
            "num_cpus": cpus,
            "object_store_memory": max(object_store_bytes, 80 * _MIB),
            "include_dashboard": False,
            "_node_ip_address": "127.0.0.1",
            "_temp_dir": str(Path(folder, "ray")),  # below: Ray opens its own to all users
        }
    try:
        try:
            with quiet_ray(), _quiet_start():
                ray.init(**options, logging_level=logging.ERROR, log_to_driver=False, configure_logging=False)
        except Exception as error:
            where = f"at {address}" if address else "on this machine"
            raise EngineError(
                f"Ray cannot be used {where} ({_first_line(error)}): mend that and run it again"
            ) from error
        if address is None and ray.util.get_node_ip_address() != "127.0.0.1":
            raise ConfigError("Ray was imported before and would listen on the network: import mmseek's engine first")
        yield ray
    finally:
        with quiet_ray():
            ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def quiet_ray() -> Iterator[None]:
    """Ray warns of its own parts; not to be open while other threads do the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def _quiet_start() -> Iterator[None]:
    """Ray's C++ part tells the standard error that it obeys a setting. Nothing else gets lost: errors are raised."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _quieten() -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # Or Ray prints on the standard output that a worker died, which is no trouble to the run.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".*")


def _keep_to_loopback() -> None:
    """Settings that Ray reads once, some when it is imported. What the user has set is left alone."""
    # Ray's own way not to be a part of a cluster: every server of it then binds to 127.0.0.1.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    if "RAY_AUTH_MODE" not in os.environ:
        # Other users of this machine reach the loopback too. A word of this process, so that none is left in a file.
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
