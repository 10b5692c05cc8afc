"""Rules of every connection that mmseek makes: who this machine is, which answers pass, and where keys may go."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Final

from mmseek.errors import ConfigError

__all__ = ["PASSING", "is_loopback", "key_in", "retry_after"]

# Answers after which the same request may pass a little later: a time limit, too many requests, and whatever a proxy
# says of a server that is not up.
PASSING: Final = frozenset({408, 429, 502, 503, 504})


def is_loopback(host: str) -> bool:
    """Whether a host is this machine. A name that is not known counts as no."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def retry_after(header: str | None) -> float | None:
    """The seconds of a `Retry-After`; None without one, and where it is a date."""
    return float(header) if header is not None and header.isascii() and header.isdecimal() else None


def key_in(file: Path, what: str) -> str:
    """The key in a file of one line. `what` is the subject of the message.

    Raises:
        ConfigError: the file cannot be read or holds no key.
    """
    try:
        key = file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{what} {file} cannot be read: name a text file with nothing but the key") from error
    if not key or not key.isascii() or not key.isprintable():
        raise ConfigError(f"{what} {file} holds no key of one line: name a text file with nothing but the key")
    return key
