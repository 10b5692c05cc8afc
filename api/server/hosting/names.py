"""What a collection may be called: one pattern, so that no name is ever a path."""

from __future__ import annotations

import re
from typing import Final

from mmseek.errors import InputError

# Letters and digits at both ends: no name is hidden, none is "." or "..", and no file system reads two as one by a dot.
NAME_PATTERN: Final = r"^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$"
# What the addresses without a name work on, where the server was given no collection of its own.
DEFAULT_NAME: Final = "default"
_NAME: Final = re.compile(NAME_PATTERN.removesuffix("$") + r"\Z")


def is_name(name: str) -> bool:
    """Whether a collection or an alias may have this name."""
    return _NAME.match(name) is not None


def check_name(name: str) -> str:
    """The name of a new collection or alias.

    Raises:
        InputError: it is none.
    """
    if not is_name(name):
        raise InputError(
            f"{name[:80]!r} is no name for a collection: give 1 to 64 of A-Z, a-z, 0-9, '.', '_' and '-', "
            "with a letter or a digit at both ends"
        )
    return name
