"""API keys: a file of hashes. The keys themselves are shown once, when they are made, and kept nowhere.

A key has 256 random bits, so a plain SHA-256 of it cannot be searched; slow password hashes are for what people invent.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

from mmseek.errors import ConfigError, InputError, ItemError
from mmseek.jsonl import JsonLine, read_json_lines

Scope: TypeAlias = Literal["read", "write", "admin"]
SCOPES: Final[Sequence[Scope]] = get_args(Scope)
_PREFIX: Final = "mmseek_"
_FIELDS: Final = {"name": str, "sha256": str, "scope": str, "per_minute": int, "max_body_bytes": int}


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What the server knows of a key.

    Args:
        name: of its holder, in logs; unique in a file.
        sha256: hex, of the key.
        scope: `read` searches and embeds, `write` adds and deletes documents too, `admin` makes and deletes collections
            and aliases and sees the metrics too.
        per_minute: requests; 0 for any number.
        max_body_bytes: of a request; 0 for the server's own bound.
    """

    name: str
    sha256: str
    scope: Scope = "read"
    per_minute: int = 0
    max_body_bytes: int = 0

    def allows(self, scope: Scope) -> bool:
        """Whether the key reaches this far: each scope includes those before it."""
        return SCOPES.index(scope) <= SCOPES.index(self.scope)


class KeyRing:
    """The keys that a server takes."""

    def __init__(self, keys: Iterable[ApiKey]) -> None:
        self._keys = tuple(keys)

    def find(self, secret: str) -> ApiKey | None:
        """The key of this secret. Every hash is compared, each in constant time: how long it takes tells nothing."""
        given = _sha256(secret)
        found: ApiKey | None = None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, given):
                found = key
        return found

    def __len__(self) -> int:
        return len(self._keys)


def new_key(name: str, *, scope: Scope = "read", per_minute: int = 0, max_body_bytes: int = 0) -> tuple[str, ApiKey]:
    """A new secret and what is kept of it."""
    secret = _PREFIX + secrets.token_urlsafe(32)
    return secret, ApiKey(name, _sha256(secret), scope, per_minute, max_body_bytes)


def read_keys(path: Path) -> list[ApiKey]:
    """The keys of a file: JSONL, an object a key.

    Raises:
        InputError: the file cannot be read.
        ConfigError: a line is no key, or a name stands twice; says which.
    """
    keys: list[ApiKey] = []
    for row in read_json_lines(path):
        if isinstance(row, ItemError):
            raise ConfigError(f"{row}: make keys with `mmseek keys`")
        keys.append(_key(row, path))
        if any(key.name == keys[-1].name for key in keys[:-1]):
            raise ConfigError(f"{path}:{row.line}: there are two keys named {keys[-1].name!r}: remove one")
    return keys


def write_keys(path: Path, keys: Iterable[ApiKey]) -> None:
    """Replace the file, readable for its owner alone.

    Raises:
        ConfigError: the disk refuses it.
    """
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.writelines(json.dumps(asdict(key)) + "\n" for key in keys)
            file.flush()
            os.fsync(descriptor)
        scratch.replace(path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise ConfigError(f"{path} cannot be written ({error.strerror}): choose another place") from error


def check_name(name: str) -> str:
    """The name of a key.

    Raises:
        InputError: it would not show in one piece in a log.
    """
    if not name.strip() or not name.isprintable() or len(name) > 100:
        raise InputError(f"{name!r} is no name for a key: give 1 to 100 printable characters")
    return name


def _key(row: JsonLine, path: Path) -> ApiKey:
    given: dict[str, Any] = row.value
    wrong = [name for name, value in given.items() if type(value) is not _FIELDS.get(name)]
    digest = str(given.get("sha256", ""))
    sound = len(digest) == 64 and set(digest) <= set("0123456789abcdef")
    scope_known = given.get("scope", "read") in SCOPES
    positive = all(given.get(name, 0) >= 0 for name in ("per_minute", "max_body_bytes") if name not in wrong)
    if wrong or not given.get("name") or not sound or not scope_known or not positive:
        raise ConfigError(f"{path}:{row.line}: this is no key: make keys with `mmseek keys --add NAME`")
    return ApiKey(**given)


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
