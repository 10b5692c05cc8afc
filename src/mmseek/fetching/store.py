"""What was fetched before, on disk: so that a server can say "unchanged" (RFC 9110, section 13) and send nothing.

One file a URL: a line of JSON with its validators and the hash of what follows, the bytes. Losing it costs a download.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Stored", "UrlStore"]

_SUFFIX: Final = ".url"
_LONGEST_HEAD: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Stored:
    """What a URL gave.

    Args:
        data: its bytes.
        url: where it was found in the end, behind all redirects.
        content_type: what the server called it.
        etag, modified: what the server is asked with whether it has changed.
    """

    data: bytes
    url: str
    content_type: str
    etag: str = ""
    modified: str = ""


class UrlStore:
    """A folder of what was fetched.

    Args:
        folder: made when it is needed; readable for its owner only.
        max_bytes: when it is opened with more than this, what was used longest ago goes.
    """

    def __init__(self, folder: Path, max_bytes: int = 2 * 1024**3) -> None:
        self._folder = folder
        self._trim(max_bytes)

    def get(self, url: str) -> Stored | None:
        """What the URL gave; None if that is not known, or its bytes are not what they were."""
        try:
            with self._path(url).open("rb") as file:
                head = json.loads(file.readline(_LONGEST_HEAD))
                data = file.read()
            found = Stored(data, *(str(head[key]) for key in ("url", "type", "etag", "modified")))
            if hashlib.sha256(data).hexdigest() != head["sha256"]:
                return None
            self._path(url).touch()
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        return found

    def put(self, url: str, found: Stored) -> None:
        """Keep it. A disk that is full or read-only keeps nothing and is no error."""
        head = {
            "url": found.url,
            "type": found.content_type,
            "etag": found.etag,
            "modified": found.modified,
            "sha256": hashlib.sha256(found.data).hexdigest(),
        }
        path = self._path(url)
        scratch = path.with_name(f".{secrets.token_hex(8)}.tmp")
        line = json.dumps(head).encode("ascii") + b"\n"
        if len(line) > _LONGEST_HEAD:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            scratch.write_bytes(line + found.data)
            scratch.replace(path)
        except OSError:
            with suppress(OSError):
                scratch.unlink()

    def _path(self, url: str) -> Path:
        return self._folder / (hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest() + _SUFFIX)

    def _trim(self, most: int) -> None:
        used = 0
        for size, path in self._by_use():
            used += size
            if used > most:
                with suppress(OSError):
                    path.unlink()

    def _by_use(self) -> Iterator[tuple[int, Path]]:
        """Sizes and files, those used last first."""
        found = []
        for path in self._folder.glob(f"*{_SUFFIX}"):
            with suppress(OSError):
                facts = path.stat()
                found.append((facts.st_mtime_ns, facts.st_size, path))
        return ((size, path) for _, size, path in sorted(found, reverse=True))
