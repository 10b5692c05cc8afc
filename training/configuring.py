"""Configurations as dataclasses: read from YAML, changed from the command line, every wrong key told by its path.

A dataclass is the schema: its fields are the keys, their types are checked, their defaults are used. Types may be
`str`, `int`, `float`, `bool`, any of them `| None`, `tuple[X, ...]`, and other dataclasses.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from mmseek.errors import ConfigError

__all__ = ["from_mapping", "overridden", "read_yaml", "to_mapping"]

T = TypeVar("T")


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        ConfigError: the file is not there, is no YAML or holds something else.
    """
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML ({' '.join(str(error).split())[:200]}): repair it") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} holds no settings: write keys and values, as in docs/training.md")
    return found


def overridden(settings: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """The settings with `a.b=value` applied, in order; a value is read as YAML, a number in the path as a list's place.

    Raises:
        ConfigError: a change is not of this form, or its path leads through something that is no mapping.
    """
    import copy

    import yaml

    changed = copy.deepcopy(dict(settings))
    for change in changes:
        path, equals, text = change.partition("=")
        if not equals or not all(path.split(".")):
            raise ConfigError(f"--set {change!r} is not a change: write --set a.b=value")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"the value of --set {change!r} is not YAML: put it in quotes") from error
        _put(changed, path, value)
    return changed


def _put(settings: dict[str, Any], path: str, value: Any) -> None:
    *outer, last = path.split(".")
    place: Any = settings
    for depth, key in enumerate(outer):
        if isinstance(place, list):
            place = place[_index(place, key, path)]
            continue
        if place.get(key) is None:
            place[key] = {}
        place = place[key]
        if not isinstance(place, dict | list):
            raise ConfigError(f"--set {path}: {'.'.join(outer[: depth + 1])} is a single value and has no keys")
    if isinstance(place, list):
        place[_index(place, last, path)] = value
    else:
        place[last] = value


def _index(place: list[Any], key: str, path: str) -> int:
    if not key.isdigit() or int(key) >= len(place):
        raise ConfigError(f"--set {path}: {key!r} is none of the list's places, 0 to {len(place) - 1}")
    return int(key)


def from_mapping(kind: type[T], settings: Any, path: str = "") -> T:
    """Make a dataclass of a mapping.

    Raises:
        ConfigError: a key is unknown or missing, or a value is of another type; the sentence names its dotted path.
    """
    if not isinstance(settings, Mapping):
        raise ConfigError(f"{path or 'the configuration'} must hold keys and values, not {settings!r}")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]  # kind is a dataclass
    for key in settings:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"did you mean {_join(path, near[0])}?" if near else f"the keys there are {', '.join(fields)}"
            raise ConfigError(f"unknown key {_join(path, str(key))}: {hint}")
    hints = typing.get_type_hints(kind)
    values = {key: _value(hints[key], value, _join(path, str(key))) for key, value in settings.items()}
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            here = _join(path, name)
            raise ConfigError(f"{here} is missing: give it in the file or with --set {here}=...")
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"{path}.{error}" if path else str(error)) from error


def to_mapping(config: Any) -> dict[str, Any]:
    """The reverse of `from_mapping`, in YAML's own types."""
    return {key: _plain(value) for key, value in dataclasses.asdict(config).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _value(kind: Any, value: Any, path: str) -> Any:
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        if value is None and type(None) in typing.get_args(kind):
            return None
        kind = next(choice for choice in typing.get_args(kind) if choice is not type(None))
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{path} must be a list, not {value!r}")
        inner = typing.get_args(kind)[0]
        return tuple(_value(inner, each, f"{path}.{place}") for place, each in enumerate(value))
    if dataclasses.is_dataclass(kind):
        return from_mapping(typing.cast("type[Any]", kind), value, path)
    return _scalar(kind, value, path)


def _scalar(kind: Any, value: Any, path: str) -> Any:
    # YAML 1.1 takes 2e-5 for a text, for want of a point.
    if kind is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        with suppress(ValueError):
            return float(value)
    elif kind is not float and isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    names = {float: "a number", int: "a whole number", bool: "true or false", str: "a text"}
    raise ConfigError(f"{path} must be {names[kind]}, not {value!r}")
