"""What the verbs that train have in common: an option, their steps, the sources of their rows, and how they end."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Protocol, Self, TypeAlias

import typer

from mmseek.cli.failures import EXIT_PARTIAL
from mmseek.cli.output import Output, count, duration, one_line, say

if TYPE_CHECKING:
    from pathlib import Path

    from rich.progress import Progress

    from mmseek.errors import ItemError
    from mmseek.training.base_run import Trained
    from mmseek.training.logs import StepReport
    from mmseek.training.plan import SourcePlan

_SECONDS_BETWEEN_LINES = 10.0

ChangesOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=VALUE", help="Change a setting; may be given again.", show_default=False),
]


class Startable(Protocol):
    """A run of either verb."""

    @property
    def output(self) -> Path: ...
    @property
    def bad_rows(self) -> list[ItemError]: ...
    def start(self, on_step: Callable[[StepReport], None] | None = None) -> Trained: ...


def carry_out(run: Startable, out: Output, what: str) -> None:
    """Train to the end and tell what came of it.

    Args:
        run: ready to start.
        out: where results go.
        what: is trained, the key of its spec: `encoder` or `reranker`.

    Raises:
        typer.Exit: rows were left out.
    """
    began = time.monotonic()
    with Steps() as steps:
        trained = run.start(steps)
    if os.environ.get("RANK", "0") != "0":
        return  # the first of torchrun's processes speaks for all
    out.json(
        {
            what: trained.spec,
            "output": str(run.output),
            "steps": trained.steps,
            "resumed_from": trained.resumed_from,
            "loss": trained.loss if math.isfinite(trained.loss) else None,
            "bad_rows": len(run.bad_rows),
            "skipped": list(trained.skipped),
            "seconds": round(time.monotonic() - began, 3),
        }
    )
    out.show(f"trained {one_line(trained.spec)}: {count(trained.steps, 'step')}, last loss {trained.loss:.4f}")
    tell_left_out(trained.skipped)
    if run.bad_rows or trained.skipped:
        raise typer.Exit(EXIT_PARTIAL)


def tell_left_out(reasons: Sequence[object]) -> None:
    """The first reasons why rows are left out."""
    for reason in reasons[:3]:
        say(f"note: left out: {reason}")


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
