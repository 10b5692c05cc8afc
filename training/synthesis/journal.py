"""Answers that were paid for: each is on the disk before anything is made of it, and is never asked for again."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from mmseek.errors import StorageError
from mmseek.index.lock import acquire
from mmseek.pipeline.chat import Chat, Message, Reply

__all__ = ["Journal", "LimitReached", "Spending", "key_of"]

# For an endpoint that does not count: letters a token, and tokens a picture.
_LETTERS: Final = 4
_PICTURE: Final = 1000


class LimitReached(Exception):
    """No more calls may be made. The message is the name of the limit."""


@dataclass(slots=True)
class Spending:
    """What was asked and what it cost, over all runs for one output.

    Args:
        max_calls, max_tokens: no call begins once so many were made or used; None for no limit. Calls that are under
            way come to their end.
        calls: requests, those of this run included that failed and were made again.
        prompt_tokens, completion_tokens: as the endpoint counts.
        guessed: whether some were guessed because it does not.
    """

    max_calls: int | None = None
    max_tokens: int | None = None
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    guessed: bool = False

    def begin(self) -> None:
        """Count a call.

        Raises:
            LimitReached: it must not be made.
        """
        if self.max_calls is not None and self.calls >= self.max_calls:
            raise LimitReached("--max-calls")
        if self.max_tokens is not None and self.prompt_tokens + self.completion_tokens >= self.max_tokens:
            raise LimitReached("--max-tokens")
        self.calls += 1


def key_of(chat: Chat, messages: Sequence[Message], pictures: Sequence[str]) -> str:
    """What a question is known by: everything that decides the answer. Pictures count by their digests."""
    texts = [
        [part["text"] for part in message["content"] if part["type"] == "text"]
        if isinstance(message["content"], list)
        else message["content"]
        for message in messages
    ]
    asked = [chat.model, chat.temperature, chat.max_tokens, texts, list(pictures)]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


class Journal:
    """The file of answers. Safe in threads of one process.

    Args:
        path: JSONL; what a kill cut off at its end is cut away.
        spending: told of the answers that are there.

    Raises:
        StorageError: it cannot be read or written, or another run writes it.
    """

    def __init__(self, path: Path, spending: Spending) -> None:
        self.path, self.spending = path, spending
        self._lock = threading.Lock()
        self._places: dict[bytes, int] = {}
        try:
            self._file = path.open("a+b")
            self._lock_out_others()
            self._read()
        except OSError as error:
            raise StorageError(f"{path} cannot be written ({error.strerror}): choose another output") from error

    def close(self) -> None:
        self._file.close()

    def known(self, key: str) -> tuple[Reply, str] | None:
        """The answer to a question, and when it came."""
        with self._lock:
            place = self._places.get(bytes.fromhex(key))
            if place is None:
                return None
            self._file.seek(place)
            found = json.loads(self._file.readline())
        return Reply(**found["reply"]), found["at"]

    def ask(
        self, chat: Chat, messages: Sequence[Message], pictures: Sequence[str], about: dict[str, Any]
    ) -> tuple[Reply, str]:
        """The answer, from the file if it is there, and when it came (UTC, ISO 8601).

        Args:
            chat: whom to ask.
            messages: what.
            pictures: their digests.
            about: written beside the answer, for people.

        Raises:
            LimitReached: it would have to be asked for, and must not.
            EndpointError: as in `Chat.ask`.
            StorageError: the disk is full or read-only.
        """
        key = key_of(chat, messages, pictures)
        if (known := self.known(key)) is not None:
            return known
        reply = chat.ask(messages, self._begin)
        at = datetime.now(UTC).isoformat(timespec="seconds")
        letters = sum(len(part.get("text", "")) for part in messages[-1]["content"]) // _LETTERS
        guess = (letters + _PICTURE * len(pictures), len(reply.text) // _LETTERS)
        line = {"key": key, "at": at, "model": chat.model, **about, "guess": guess, "reply": asdict(reply)}
        self._add(key, (json.dumps(line) + "\n").encode())
        self._count(reply, guess)
        return reply, at

    def _begin(self) -> None:
        with self._lock:
            self.spending.begin()

    def _count(self, reply: Reply, guess: Sequence[int]) -> None:
        with self._lock:
            asked, answered = reply.prompt_tokens, reply.completion_tokens
            self.spending.guessed |= asked is None or answered is None
            self.spending.prompt_tokens += guess[0] if asked is None else asked
            self.spending.completion_tokens += guess[1] if answered is None else answered

    def _add(self, key: str, line: bytes) -> None:
        try:
            with self._lock:
                place = self._file.seek(0, os.SEEK_END)
                self._file.write(line)
                self._file.flush()
                os.fsync(self._file.fileno())
                self._places[bytes.fromhex(key)] = place
        except OSError as error:
            raise StorageError(f"{self.path} cannot be written ({error.strerror}): make room on the disk") from error

    def _lock_out_others(self) -> None:
        try:
            acquire(self._file.fileno())
        except (BlockingIOError, PermissionError):
            self._file.close()
            raise StorageError(
                f"{self.path} is being written by another run: wait for its end, or give another output"
            ) from None

    def _read(self) -> None:
        self._file.seek(0)
        place = 0
        while line := self._file.readline():
            try:
                found = json.loads(line)
                key, reply, guess = bytes.fromhex(found["key"]), Reply(**found["reply"]), found["guess"]
            except (ValueError, KeyError, TypeError) as error:
                if line.endswith(b"\n"):
                    self._file.close()
                    raise StorageError(
                        f"{self.path} is no file of answers, or was changed: give another output, or move it away"
                    ) from error
                self._file.truncate(place)
                return
            self._places[key] = place
            self.spending.calls += 1
            self._count(reply, guess)
            place = self._file.tell()
