"""JSON Lines from outside: read as a stream within bounds, each bad line is told by its number, the rest go on."""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, NoReturn

from mmseek.errors import InputError, ItemError

__all__ = ["MAX_DEPTH", "MAX_LINE_BYTES", "JsonLine", "check_json", "check_text", "parse_json_line", "read_json_lines"]

MAX_DEPTH: Final = 64
# 16 MiB of text and metadata, and room for one picture of the largest default size as a base64 data: URI.
MAX_LINE_BYTES: Final = 16 * 1024**2 + 4 * (64 * 1024**2 // 3 + 1)

_BOM: Final = b"\xef\xbb\xbf"
_OTHER_STARTS: Final = {
    b"\xff\xfe": "is UTF-16, not UTF-8: save it as UTF-8",
    b"\xfe\xff": "is UTF-16, not UTF-8: save it as UTF-8",
    b"\x1f\x8b": "is packed with gzip: unpack it first",
    b"PK\x03\x04": "is a ZIP archive: unpack it first",
}


@dataclass(frozen=True, slots=True)
class JsonLine:
    """One object of a JSONL file and its 1-based line number."""

    line: int
    value: dict[str, Any]


def read_json_lines(path: Path | str, *, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[JsonLine | ItemError]:
    """Read a JSONL file of objects line by line; memory is bounded by the longest line allowed.

    Blank lines are skipped; a byte order mark and Windows line ends are accepted. What is wrong with one line (not
    UTF-8, not JSON, NaN or Infinity, a key twice, too deep, too long, no object) is yielded as an `ItemError` in its
    place.

    Raises:
        InputError: the file is missing, unreadable, a folder or a device, or of another encoding altogether.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            _check_kind(path, os.fstat(file.fileno()).st_mode)
            yield from _lines(path, file, max_line_bytes)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path} does not exist: check the path") from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder, not a JSONL file: give the path of a file") from error
    except PermissionError as error:
        raise InputError(f"{path} may not be read: change its permissions") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check the path and the disk") from error


def check_json(value: object) -> None:
    """Make sure that a value can be written as JSON and read back equal.

    Raises:
        ItemError: it holds something that JSON has not: another type, a key that is no string, NaN or infinity, half of
            a surrogate pair, or more than `MAX_DEPTH` levels. The error has a reason but no place.
    """
    stack: list[tuple[object, int]] = [(value, 1)]
    while stack:
        item, depth = stack.pop()
        if item is None or isinstance(item, bool | int):
            continue
        if isinstance(item, str):
            check_text(item)
        elif isinstance(item, float):
            if not math.isfinite(item):
                raise ItemError("holds a number that is not finite, which JSON cannot say")
        elif depth > MAX_DEPTH:
            raise ItemError(f"is nested more than {MAX_DEPTH} levels deep")
        elif isinstance(item, dict):
            stack.extend((key, depth) for key in _checked_keys(item))
            stack.extend((child, depth + 1) for child in item.values())
        elif isinstance(item, list | tuple):
            stack.extend((child, depth + 1) for child in item)
        else:
            raise ItemError(f"holds a value of type {type(item).__name__}, which JSON has not")


def check_text(text: str) -> None:
    """Make sure that a string is Unicode text that UTF-8 can carry.

    Raises:
        ItemError: it holds half of a surrogate pair.
    """
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise ItemError(f"holds half of a surrogate pair (\\u{ord(text[error.start]):04x})") from error


def _checked_keys(mapping: dict[Any, Any]) -> list[str]:
    for key in mapping:
        if not isinstance(key, str):
            raise ItemError(f"has a key of type {type(key).__name__}, but JSON keys are strings")
    return list(mapping)


def _check_kind(path: Path, mode: int) -> None:
    # A pipe is fine (a shell's process substitution); a device such as /dev/zero has no end.
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        raise InputError(f"{path} is a device, not a JSONL file: give the path of a file")


def _lines(path: Path, file: IO[bytes], limit: int) -> Iterator[JsonLine | ItemError]:
    number = 0
    while raw := file.readline(limit + 1):
        number += 1
        if number == 1:
            _check_start(path, raw)
            raw = raw.removeprefix(_BOM)
        if len(raw) > limit and not raw.endswith(b"\n"):
            _skip_line(file)
            yield ItemError(
                f"is longer than {limit} bytes: split it or keep its pictures in files", source=path, line=number
            )
        elif not raw.isspace() and raw:
            yield parse_json_line(path, number, raw)


def _check_start(path: Path, raw: bytes) -> None:
    for start, reason in _OTHER_STARTS.items():
        if raw.startswith(start):
            raise InputError(f"{path} {reason}")


def _skip_line(file: IO[bytes]) -> None:
    while (rest := file.readline(1 << 20)) and not rest.endswith(b"\n"):
        pass


def parse_json_line(source: Path | str, number: int, raw: bytes) -> JsonLine | ItemError:
    """One line of a file, or what is wrong with it; `source` and `number` say where it stands."""
    raw = raw.rstrip(b"\r\n")
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        reason = f"is not UTF-8 (byte {error.start + 1} of the line): save the file as UTF-8"
    except ItemError as error:
        reason = error.reason
    except json.JSONDecodeError as error:
        reason = f"is not JSON: {error.msg.removesuffix(' at')} at column {error.colno}"
    except RecursionError:
        reason = "is nested too deeply"
    except ValueError:  # the interpreter's limit on the digits of an integer
        reason = "holds a number with too many digits"
    else:
        if isinstance(value, dict):
            return JsonLine(number, value)
        reason = f"is {_kind(value)}, not a JSON object"
    return ItemError(reason, source=source, line=number)


def _refuse_constant(constant: str) -> NoReturn:
    raise ItemError(f"is not JSON: {constant} is no number that JSON knows")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ItemError(f"has the key {twice!r} twice")
    return found


def _kind(value: object) -> str:
    names = {list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")
