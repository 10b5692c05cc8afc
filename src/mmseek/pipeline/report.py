"""What an indexing run says of itself: while it runs, and at its end."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from mmseek.errors import InputError, ItemError, StorageError
from mmseek.index.corpus import Skipped


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands.

    Args:
        done: items that are through: encoded, unchanged or failed.
        total: items in all, if the caller knew.
        indexed: items stored durably by this run.
        unchanged: items that the collection held already, as they are.
        failed: items that could not be used.
        seconds: since the run began.
    """

    done: int
    total: int | None
    indexed: int
    unchanged: int
    failed: int
    seconds: float

    @property
    def rate(self) -> float:
        """Items a second, on average over the run."""
        return self.done / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class IndexReport:
    """How a run ended.

    Args:
        indexed: documents that were encoded and stored durably.
        unchanged: documents that the collection held already, as they are.
        failed: one error for each item that could not be used, with its place.
        skipped: files that are no documents.
        seconds: from start to end.
        removed: documents that were taken out, because their files no longer have them.
        not_pruned: why nothing else was taken out although it was asked for.
    """

    indexed: int
    unchanged: int
    failed: tuple[ItemError, ...]
    skipped: tuple[Skipped, ...]
    seconds: float
    removed: int = 0
    not_pruned: str | None = None

    @property
    def ok(self) -> bool:
        """Whether every item is in the collection now."""
        return not self.failed


class IndexingInterrupted(KeyboardInterrupt):
    """The run was interrupted; `report` says what it had stored until then. Running it again goes on from there."""

    def __init__(self, report: IndexReport) -> None:
        self.report = report
        super().__init__(f"interrupted: {report.indexed} documents of this run are stored; run it again to go on")


class IndexingStopped(StorageError):
    """The disk failed during the run; `report` says what it had stored until then."""

    def __init__(self, cause: StorageError, report: IndexReport) -> None:
        self.report = report
        super().__init__(
            f"{cause}; the {report.indexed} documents stored before by this run are safe: run it again then"
        )


def write_report(report: IndexReport, path: str | Path) -> None:
    """Write what failed and what was skipped, one JSON object a line.

    `{"status": "failed"|"skipped", "source": str|null, "line": int|null, "id": str|null, "reason": str}`

    Raises:
        InputError: the file cannot be written.
    """
    rows = [
        {"status": "failed", "source": error.source, "line": error.line, "id": error.item_id, "reason": error.reason}
        for error in report.failed
    ]
    rows += [
        {"status": "skipped", "source": notice.source, "line": None, "id": None, "reason": notice.reason}
        for notice in report.skipped
    ]
    try:
        with Path(path).open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    except OSError as error:
        raise InputError(f"the report cannot be written to {path}: {error.strerror}") from error
