"""Where a Qdrant collection is: `qdrant-edge:DIR`, `qdrant-local::memory:NAME`, `qdrant://HOST:PORT/NAME`."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from mmseek.errors import SpecError
from mmseek.index.qdrant.store import Options

Kind: TypeAlias = Literal["edge", "memory", "server"]

_PREFIX = re.compile(r"(qdrant-edge|qdrant-local|qdrant\+https|qdrant):")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}")
_PORT = 6333
_FORMS = "qdrant-edge:DIR, qdrant-local::memory:NAME, qdrant://HOST:PORT/NAME or qdrant+https://HOST:PORT/NAME"


@dataclass(frozen=True, slots=True)
class Place:
    """A location that was read.

    Args:
        kind: how Qdrant is reached.
        where: the folder, the name in memory, or the server's URL.
        name: of the collection on a server.
        options: from behind the `?`.
    """

    kind: Kind
    where: str
    name: str = "mmseek"
    options: Options = dataclasses.field(default_factory=Options)

    def __str__(self) -> str:
        if self.kind == "server":
            return f"{'qdrant+https' if self.where.startswith('https') else 'qdrant'}://{self.host}/{self.name}"
        return f"qdrant-edge:{self.where}" if self.kind == "edge" else f"qdrant-local::memory:{self.where}"

    @property
    def host(self) -> str:
        return urlsplit(self.where).netloc


def is_qdrant(location: object) -> bool:
    """Whether a location names a Qdrant."""
    return isinstance(location, str) and _PREFIX.match(location) is not None


def parse_location(location: str) -> Place:
    """Read a location.

    Raises:
        SpecError: it is incomplete, has a part that means nothing, or names what is never opened.
    """
    found = _PREFIX.match(location)
    if found is None:
        raise SpecError(f"{location!r} names no Qdrant: write {_FORMS}")
    scheme, rest = found[1], location[found.end() :]
    rest, options = _options(rest)
    if scheme == "qdrant-edge":
        if not rest.strip():
            raise SpecError("qdrant-edge: needs the path of a folder: write qdrant-edge:DIR")
        return Place("edge", str(Path(rest).expanduser().absolute()), options=options)
    if scheme == "qdrant-local":
        if not rest.startswith(":memory:"):
            raise SpecError(
                f"{location!r}: qdrant-client keeps its local folders as Python pickles, which can run any code and "
                "are never opened here: write qdrant-edge:DIR for a folder, or qdrant-local::memory:NAME"
            )
        return Place("memory", rest.removeprefix(":memory:") or "default", options=options)
    return _server("https" if scheme == "qdrant+https" else "http", rest, options)


def _server(scheme: str, rest: str, options: Options) -> Place:
    try:
        parts = urlsplit(f"{scheme}:{rest}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if "@" in parts.netloc:
        raise SpecError("a location of Qdrant has no user or password in it: put the key in MMSEEK_QDRANT_API_KEY_FILE")
    name = parts.path.strip("/")
    if not host or parts.fragment or not rest.startswith("//"):
        raise SpecError(f"{scheme}:{rest} is no address of a Qdrant: write qdrant://HOST:PORT/NAME")
    if not _NAME.fullmatch(name):
        raise SpecError(
            f"{name!r} is no name of a collection in Qdrant: write qdrant://HOST:PORT/NAME, the name of letters, "
            "digits, dots, - and _"
        )
    host = f"[{host}]" if ":" in host else host
    return Place("server", f"{scheme}://{host}:{port or _PORT}", name, options)


def _options(rest: str) -> tuple[str, Options]:
    """What stands before the `?`, and what behind it says."""
    head, mark, tail = rest.rpartition("?")
    if not mark or "=" not in tail:
        return rest, Options()
    known = {one.name: one for one in dataclasses.fields(Options)}
    chosen: dict[str, int | bool | str] = {}
    for key, value in parse_qsl(tail, keep_blank_values=True):
        if key not in known:
            raise SpecError(f"{key!r} is no option of a Qdrant location: the options are {', '.join(known)}")
        chosen[key] = _value(key, value, known[key].default)
    return head, Options(**chosen)  # type: ignore[arg-type]  # each has its default's type


def _value(key: str, value: str, default: object) -> int | bool | str:
    if isinstance(default, bool):
        if value.lower() in {"true", "false"}:
            return value.lower() == "true"
        raise SpecError(f"the option {key} is true or false, not {value!r}")
    if isinstance(default, int):
        if value.isdecimal() and len(value) < 7 and (int(value) > 0 or key == "hnsw_ef"):
            return int(value)
        raise SpecError(f"the option {key} is a whole number of at least 1, not {value!r}")
    if value not in {"", "int8", "binary"}:
        raise SpecError(f"the option {key} is int8 or binary, not {value!r}")
    return value
