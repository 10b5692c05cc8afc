"""Pieces of `mmseek.filters` expressions, for the filters of frameworks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mmseek.errors import InputError
from mmseek.filters import parse_filter

__all__ = ["NOTHING", "as_filter", "checked", "equals", "field", "joined", "literal", "one_of"]

EVERYTHING: Final = "id exists"
NOTHING: Final = "not id exists"


def as_filter(given: str | Mapping[str, Any] | None) -> str | None:
    """A condition as it is, or a mapping of fields to the values that they equal.

    Raises:
        InputError: it is neither, or cannot be read.
    """
    if given is None:
        return None
    if isinstance(given, str):
        return checked(given)
    if isinstance(given, Mapping):
        return checked(joined("and", [equals(field(str(name)), value) for name, value in given.items()])) or None
    raise InputError(f"a filter is a condition like 'year >= 2020' or a mapping, not {type(given).__name__}")


def checked(text: str) -> str:
    """The condition, once it can be read.

    Raises:
        InputError: see `mmseek.filters.parse_filter`.
    """
    if text:
        parse_filter(text)
    return text


def field(path: str) -> str:
    """A field of the metadata; dots go into objects. In backticks no name is a reserved one.

    Raises:
        InputError: no field can have this name.
    """
    names = path.split(".")
    if not all(name and "`" not in name for name in names):
        raise InputError(f"{path[:100]!r} is no name of a field")
    return ".".join(f"`{name}`" for name in names)


def literal(value: object) -> str:
    """A value as the filter language writes it.

    Raises:
        InputError: it has no such value.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return repr(value)
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    raise InputError(f"a filter compares with a number, text, true, false or null, not {type(value).__name__}")


def equals(name: str, value: object) -> str:
    """A condition for one value, or for one of a list of them."""
    return one_of(name, value) if isinstance(value, list) else f"{name} == {literal(value)}"


def one_of(name: str, values: Sequence[object]) -> str:
    """The field has one of these values; null among them means that it is not there."""
    given = [literal(value) for value in values if value is not None]
    tests = [f"{name} in [{', '.join(given)}]"] if given else []
    tests += [f"{name} == null"] if None in values else []
    return joined("or", tests) or NOTHING


def joined(word: str, parts: Sequence[str]) -> str:
    """Conditions joined by `and` or `or`; of none, an empty text."""
    return parts[0] if len(parts) == 1 else f" {word} ".join(f"({part})" for part in parts)
