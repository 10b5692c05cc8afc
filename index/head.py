"""`head.json`: what the writer acknowledged last, apart from the ledger, so that losses in the ledger can be seen.

SQLite drops the end of a damaged log without a word, and has no checksums on its pages. The head counts the commits
that were acknowledged, and after a clean close it has the hash of the whole ledger file (the seal). It is written over
in place and waits for nothing: after a power cut it may be behind the ledger, never ahead of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from mmseek.errors import CorruptCollection
from mmseek.index.durable import sync, write_all
from mmseek.index.rawfile import hash_file

NAME = "head.json"
_SIZE = 256  # written by one call, within one sector


@dataclass(frozen=True, slots=True)
class Head:
    """`seal` is None while the ledger has a log, that is, from the first commit of a writer to its clean close."""

    generation: int
    seal: str | None = None

    def to_bytes(self) -> bytes:
        body = {"generation": self.generation, "seal": self.seal}
        checksum = hashlib.blake2b(json.dumps(body).encode(), digest_size=16).hexdigest()
        return json.dumps({**body, "checksum": checksum}).encode().ljust(_SIZE - 1) + b"\n"


def write_head(folder: Path, head: Head, *, durable: bool = False) -> None:
    """Write the head over the old one."""
    fd = os.open(folder / NAME, os.O_WRONLY | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
    try:
        write_all(fd, head.to_bytes())
        if durable:
            sync(fd)
    finally:
        os.close(fd)


def seal(folder: Path, ledger: Path, generation: int) -> None:
    """Note the hash of a ledger file that has no log, so that any change to it can be seen.

    Raises:
        CorruptCollection: the head is missing or damaged.
        OSError: the disk is full or failing.
    """
    head = read_head(folder)
    if head.generation != generation or head.seal is None:
        write_head(folder, Head(generation, hash_file(ledger)), durable=True)


def read_head(folder: Path) -> Head:
    """Read and check the head.

    Raises:
        CorruptCollection: it is missing or damaged.
    """
    for attempt in range(3):
        try:
            raw = (folder / NAME).read_bytes()
            body = json.loads(raw)
            head = Head(body["generation"], body["seal"])
            if head.to_bytes() == raw:
                return head
        except FileNotFoundError:
            raise CorruptCollection(f"{folder / NAME} is missing: open the collection for writing once") from None
        except (OSError, ValueError, KeyError, TypeError):
            pass
        time.sleep(0.002 * attempt)  # it may have been read in the middle of being written
    raise CorruptCollection(f"{folder / NAME} is damaged: open the collection for writing once")
