"""What became of each question, one JSON object a line, written as it happens, so that a run that ended goes on."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from mmseek.errors import InputError, StorageError

__all__ = ["FoundHit", "RagRecord", "Records"]

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class FoundHit:
    """A hit as a record keeps it.

    Args:
        id, document, page, score: of the hit.
        relevant: which of the question's relevant things it is, counted from 0.
    """

    id: str
    document: str
    page: int | None
    score: float
    relevant: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RagRecord:
    """What one question came to, before anything is scored.

    Args:
        id: of the question.
        answer: as the endpoint wrote it.
        found: whether it is an answer, and not `not in the corpus`.
        hits: all that reached the threshold, best first.
        cited: ids of what the answer cites.
        invented: numbers that it cites and that are no sources.
        searched: what was searched for.
        below: how many hits the threshold left out.
        took_ms: milliseconds in all, other questions in between included.
        requeried: MMSearch: the query that the endpoint wrote.
        first_unsure: MMSearch: whether the first hit is one of those that count half.
        summary: MMSearch: the answer from the right documents; None where there are none.
        judged: a judge's grade from 1 to 5; None if there is no judge, or no grade could be read.
    """

    id: str
    answer: str
    found: bool
    hits: tuple[FoundHit, ...]
    cited: tuple[str, ...]
    invented: tuple[int, ...]
    searched: str
    below: int
    took_ms: float
    requeried: str | None = None
    first_unsure: bool = False
    summary: str | None = None
    judged: int | None = None

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """From a line of the file.

        Raises:
            KeyError, TypeError: it is something else.
        """
        hits = tuple(FoundHit(**{**each, "relevant": tuple(each["relevant"])}) for each in found["hits"])
        lists = {"cited": tuple(found["cited"]), "invented": tuple(found["invented"])}
        return cls(**{**found, "hits": hits, **lists})


@dataclass(slots=True)
class Records:
    """The file of records; without one, they are kept in memory. Safe to use from several threads.

    Args:
        path: the file, or None.
        setup: what the run depends on; a file of another setup is not continued.

    Raises:
        InputError: the file is of another setup, or is something else.
        StorageError: it cannot be written.
    """

    path: Path | None
    setup: Mapping[str, Any]
    done: dict[str, RagRecord] = field(default_factory=dict)
    _file: IO[bytes] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if self.path is None:
            return
        try:
            self._file = self.path.open("a+b")
            self._file.seek(0)
            lines = self._file.read().split(b"\n")
            # What stands behind the last line end was being written when the run was ended.
            self._file.truncate(sum(len(line) + 1 for line in lines[:-1]))
            if lines[:-1]:
                self._resume(self.path, lines[:-1])
            else:
                self._write({"format": _FORMAT, "setup": dict(self.setup)})
        except OSError as error:
            raise StorageError(f"{self.path} cannot be written ({error.strerror}): choose another place") from error

    def add(self, record: RagRecord) -> None:
        """Keep a record; with a file, it is on disk afterwards.

        Raises:
            StorageError: the disk refuses it.
        """
        with self._lock:
            self.done[record.id] = record
            try:
                self._write(asdict(record))
            except OSError as error:
                raise StorageError(f"{self.path} cannot be written ({error.strerror}): make room") from error

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _write(self, value: Mapping[str, Any]) -> None:
        if self._file is not None:
            self._file.write(json.dumps(value, ensure_ascii=True).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())

    def _resume(self, path: Path, lines: list[bytes]) -> None:
        try:
            head, *rows = [json.loads(line) for line in lines]
            before = head["setup"]
            records = [RagRecord.from_json(row) for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            self.close()
            raise InputError(f"{path} is no file of answers: name another one, or one of --answers") from error
        now = json.loads(json.dumps(dict(self.setup)))
        other = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
        if head.get("format") != _FORMAT or other:
            self.close()
            raise InputError(
                f"{path} has answers of another run ({', '.join(other) or 'format'} differ): "
                "name another file, or run with the same options"
            )
        self.done = {record.id: record for record in records}
