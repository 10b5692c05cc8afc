"""How far a run is: a live bar on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from mmseek.cli.output import duration, say

if TYPE_CHECKING:
    from rich.progress import Progress

_SECONDS_BETWEEN_LINES = 10.0


class Meter:
    """Items done, rate, time left and failures, on stderr.

    Args:
        verb: what is done, for the start of the line: `"indexing"`.
        total: how many items there are, or None if nobody counted.
    """

    def __init__(self, verb: str, total: int | None = None) -> None:
        self._verb = verb
        self._total = total
        self._done = self._failed = 0
        self._started = self._told = time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bar = _bar()
            self._task = self._bar.add_task(self._verb, total=self._total, failed="", rate="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    @property
    def seconds(self) -> float:
        """Since this meter was made."""
        return time.monotonic() - self._started

    def phase(self, verb: str, done: int, total: int) -> None:
        """Tell how far one of several phases is; a new `verb` begins a new phase."""
        if verb != self._verb:
            self._verb, self._started = verb, time.monotonic()
        self._total = total
        if self._bar is not None:
            self._bar.update(self._task, description=verb, total=total)
        self.update(done)

    def update(self, done: int, failed: int = 0) -> None:
        """Tell how many items are behind us, and how many of them failed."""
        self._done, self._failed = done, failed
        if self._bar is not None:
            words = f"{failed:,} failed" if failed else ""
            self._bar.update(self._task, completed=done, failed=words, rate=f"{self._rate():,.0f}/s")
        elif time.monotonic() - self._told >= _SECONDS_BETWEEN_LINES:
            self._told = time.monotonic()
            say(self.line())

    def line(self) -> str:
        """`indexing: 1,200 of 5,183 items, 310/s, 13 s left, 2 failed`."""
        of = "" if self._total is None else f" of {self._total:,}"
        words = [f"{self._verb}: {self._done:,}{of} items", f"{self._rate():,.0f}/s"]
        if self._total is not None and self._rate() > 0:
            words.append(f"{duration(max(0, self._total - self._done) / self._rate())} left")
        if self._failed:
            words.append(f"{self._failed:,} failed")
        return ", ".join(words)

    def _rate(self) -> float:
        return self._done / max(self.seconds, 1e-9)


def _bar() -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    from mmseek.cli.screen import Screen

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[failed]}", style="red", markup=False),
        console=Screen(stderr=True),
        transient=True,
    )
