"""What the verbs that train show: their steps, and the sources of their rows."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from mmseek.cli.output import duration, one_line, say

if TYPE_CHECKING:
    from rich.progress import Progress

    from mmseek.training.logs import StepReport
    from mmseek.training.plan import SourcePlan

_SECONDS_BETWEEN_LINES = 10.0


def source_table(sources: Sequence[SourcePlan]) -> Any:
    """A line a source."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("source", "rows", "bad", "share", "epochs"):
        table.add_column(name, justify="left" if name == "source" else "right")
    for each in sources:
        table.add_row(
            Text(one_line(each.name)), f"{each.rows:,}", f"{each.bad:,}", f"{each.share:.3f}", f"{each.epochs:g}"
        )
    return table


class Steps:
    """Tells of steps: a bar on a terminal, a line now and then in a log."""

    def __init__(self) -> None:
        self._told = -math.inf
        self._bar: Progress | None = None
        self._task: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, report: StepReport) -> None:
        if sys.stderr.isatty():
            self._on_bar(report)
        elif time.monotonic() - self._told >= _SECONDS_BETWEEN_LINES or report.step == report.steps:
            self._told = time.monotonic()
            say(f"training: step {report.step:,} of {report.steps:,}, {_numbers(report)}, {duration(report.left)} left")

    def _on_bar(self, report: StepReport) -> None:
        if self._bar is None:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            from mmseek.cli.screen import Screen

            columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[numbers]}"))
            self._bar = Progress(*columns, TimeRemainingColumn(compact=True), console=Screen(stderr=True))
            self._task = self._bar.add_task("training", total=report.steps, numbers="")
            self._bar.start()
        self._bar.update(self._task, completed=report.step, numbers=_numbers(report))


def _numbers(report: StepReport) -> str:
    return f"loss {report.loss:.4f}, grad norm {report.grad_norm:.3g}, {report.samples:,.0f} samples/s"
