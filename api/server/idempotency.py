"""`Idempotency-Key`: a request that is sent again is answered with what it was answered before, and done once.

After draft-ietf-httpapi-idempotency-key-header. Only requests that change something take part; successes are kept,
for an error has changed nothing and may pass the next time.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, NamedTuple

import structlog
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from mmseek.api.server.errors import answer_of_http_error, error_answer
from mmseek.api.server.security.gate import needed_scope
from mmseek.errors import StorageError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER: Final = "idempotency-key"
REPLAYED: Final = b"idempotency-replayed"
MOST_KEY: Final = 255
_IN_MEMORY: Final = 1 << 20  # of a body; what is longer goes to a temporary file
_PIECE: Final = 1 << 16
_log = structlog.get_logger("mmseek.api")


class Kept(NamedTuple):
    """An answer, and of which request."""

    digest: bytes
    status: int
    kind: bytes
    body: bytes


class AnswerStore:
    """Answers by holder and key: for a time, within bounds, and on disk if there is a place for them.

    Args:
        path: of the database; None keeps them in memory, until the server ends.
        seconds: that an answer is kept.
        most: answers, the oldest go first.
        most_bytes: of their bodies together.

    Raises:
        StorageError: the file cannot be used.
    """

    def __init__(
        self, path: Path | None, *, seconds: float = 24 * 3600.0, most: int = 10_000, most_bytes: int = 64 * 1024**2
    ) -> None:
        self._place = "memory" if path is None else str(path)
        self._seconds = seconds
        self._most = most
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        with self._told():
            self._sql = sqlite3.connect(":memory:" if path is None else path, check_same_thread=False)
            self._sql.execute("PRAGMA journal_mode = WAL")
            self._sql.execute("PRAGMA synchronous = FULL")
            self._sql.execute(
                "CREATE TABLE IF NOT EXISTS answers (number INTEGER PRIMARY KEY AUTOINCREMENT, holder TEXT NOT NULL, "
                "key TEXT NOT NULL, digest BLOB NOT NULL, status INTEGER NOT NULL, kind BLOB NOT NULL, "
                "body BLOB NOT NULL, at REAL NOT NULL, UNIQUE (holder, key))"
            )
            self._sql.commit()

    def get(self, holder: str, key: str) -> Kept | None:
        """What was answered, if it is kept."""
        with self._lock, self._told():
            row = self._sql.execute(
                "SELECT digest, status, kind, body FROM answers WHERE holder = ? AND key = ? AND at > ?",
                (holder, key, time.time() - self._seconds),
            ).fetchone()
        return None if row is None else Kept(*row)

    def put(self, holder: str, key: str, answer: Kept) -> None:
        """Keep an answer; durable on return."""
        with self._lock, self._told(), self._sql:
            self._sql.execute(
                "INSERT OR REPLACE INTO answers (holder, key, digest, status, kind, body, at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (holder, key, *answer, time.time()),
            )
            self._sql.execute("DELETE FROM answers WHERE at <= ?", (time.time() - self._seconds,))
            newest = "SELECT number, sum(length(body)) OVER (ORDER BY number DESC) AS bytes, "
            newest += "row_number() OVER (ORDER BY number DESC) AS place FROM answers"
            self._sql.execute(
                f"DELETE FROM answers WHERE number IN (SELECT number FROM ({newest}) WHERE bytes > ? OR place > ?)",  # noqa: S608  # constants
                (self._most_bytes, self._most),
            )

    def __len__(self) -> int:
        with self._lock, self._told():
            return int(self._sql.execute("SELECT count(*) FROM answers").fetchone()[0])

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            self._sql.close()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StorageError(f"{self._place} cannot be used ({error}): check the disk") from error


@dataclass(slots=True)
class _Answer:
    """What the application answers, held back until it is kept."""

    start: Message | None = None
    body: bytearray = field(default_factory=bytearray)

    async def take(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.start = message
        elif message["type"] == "http.response.body":
            self.body += message.get("body", b"")

    async def send(self, send: Send) -> None:
        assert self.start is not None
        await send(self.start)
        await send({"type": "http.response.body", "body": bytes(self.body)})

    def kept(self, digest: bytes) -> Kept | None:
        """What is to be kept: a success."""
        if self.start is None or not 200 <= self.start["status"] < 300:
            return None
        kind = next((value for name, value in self.start["headers"] if name.lower() == b"content-type"), b"")
        return Kept(digest, self.start["status"], bytes(kind), bytes(self.body))


class Idempotency:
    """Answers a repeated key as before: 422 with another request, 409 while the first is at work.

    Args:
        store: of the answers.
    """

    def __init__(self, app: ASGIApp, store: AnswerStore) -> None:
        self.app = app
        self._store = store
        self._at_work: set[tuple[str, str]] = set()  # used on the event loop only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        key = Headers(scope=scope).get(HEADER) if scope["type"] == "http" else None
        if key is None or needed_scope(scope["method"], scope["path"]) == "read":
            await self.app(scope, receive, send)
            return
        if not 0 < len(key) <= MOST_KEY or not key.isascii() or not key.isprintable():
            message = f"Idempotency-Key must be 1 to {MOST_KEY} printable ASCII characters"
            await error_answer(400, "bad_idempotency_key", message)(scope, receive, send)
            return
        holder = scope.get("state", {}).get("key")
        mine = ("" if holder is None else holder.name, key)
        if mine in self._at_work:
            message = "a request with this Idempotency-Key is at work: ask again when it is done"
            await error_answer(409, "idempotency_in_progress", message, {"Retry-After": "1"})(scope, receive, send)
            return
        self._at_work.add(mine)
        try:
            with tempfile.SpooledTemporaryFile(_IN_MEMORY) as body:
                await self._once(mine, body, scope, receive, send)
        finally:
            self._at_work.discard(mine)

    async def _once(self, mine: tuple[str, str], body: IO[bytes], scope: Scope, receive: Receive, send: Send) -> None:
        try:
            digest = await _read(scope, receive, body)
        except HTTPException as error:  # the body is too long, or stands still
            await answer_of_http_error(error)(scope, receive, send)
            return
        if digest is None:
            return  # the client hung up
        before = await asyncio.to_thread(self._store.get, *mine)
        if before is not None and before.digest != digest:
            message = "this Idempotency-Key came with another request before: give each request its own key"
            await error_answer(422, "idempotency_mismatch", message)(scope, receive, send)
            return
        if before is not None:
            headers = [(b"content-type", before.kind), (REPLAYED, b"true")]
            headers.append((b"content-length", str(len(before.body)).encode()))
            await send({"type": "http.response.start", "status": before.status, "headers": headers})
            await send({"type": "http.response.body", "body": before.body})
            return
        answer = _Answer()
        await self.app(scope, _again(body, receive), answer.take)
        kept = answer.kept(digest)
        if kept is not None:
            try:
                await asyncio.to_thread(self._store.put, *mine, kept)
            except StorageError as error:  # what was done is done: the answer is worth more than the record of it
                _log.error("answer_not_kept", request_id=scope["state"].get("request_id"), exc_info=error)
        if answer.start is not None:
            await answer.send(send)


async def _read(scope: Scope, receive: Receive, body: IO[bytes]) -> bytes | None:
    """Keep the body, and name the whole request by a hash; None where the client hung up."""
    digest = hashlib.sha256()
    for part in (scope["method"].encode(), scope["path"].encode("utf-8", "surrogatepass"), scope["query_string"]):
        digest.update(len(part).to_bytes(8, "big") + part)
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        piece = message.get("body", b"")
        digest.update(piece)
        body.write(piece)
        if not message.get("more_body"):
            body.seek(0)
            return digest.digest()


def _again(body: IO[bytes], receive: Receive) -> Receive:
    """The body as it came, and after it whatever comes from the connection."""
    ended = False

    async def read() -> Message:
        nonlocal ended
        if ended:
            return await receive()
        piece = body.read(_PIECE)
        ended = len(piece) < _PIECE
        return {"type": "http.request", "body": piece, "more_body": not ended}

    return read
