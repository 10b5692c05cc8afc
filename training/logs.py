"""What a run tells of its steps: a line of JSON each, and curves for TensorBoard."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from mmseek.errors import MissingExtra

__all__ = ["StepLog", "StepReport"]


@dataclass(frozen=True, slots=True)
class StepReport:
    """How one step went. `samples` are queries a second over all processes, `left` the seconds that remain."""

    step: int
    steps: int
    loss: float
    grad_norm: float
    rate: float
    samples: float
    left: float


class StepLog:
    """`log.jsonl` and `tensorboard/` of a run's folder.

    Args:
        folder: of the run.
        from_step: a run that goes on; what was written of later steps is taken back.
        curves: whether TensorBoard's files are written.
        quiet: write nothing, for all processes but the first.

    Raises:
        MissingExtra: curves are asked for and tensorboard is not installed.
    """

    def __init__(self, folder: Path, *, from_step: int, curves: bool, quiet: bool = False) -> None:
        if curves and find_spec("tensorboard") is None:
            raise MissingExtra("writing curves (run.tensorboard)", "train")
        self._path = folder / "log.jsonl"
        self._folder, self._from, self._curves, self._quiet = folder, from_step, curves, quiet
        self._file: TextIO | None = None
        self._writer: Any = None
        self.last_loss = float("nan")

    def __enter__(self) -> Self:
        if self._quiet:
            return self
        kept = self._kept()
        self._path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        if kept:
            self.last_loss = json.loads(kept[-1])["loss"]
        self._file = self._path.open("a", encoding="utf-8")
        if self._curves:
            from torch.utils.tensorboard import SummaryWriter

            writer: Any = SummaryWriter
            self._writer = writer(str(self._folder / "tensorboard"), purge_step=self._from + 1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
        if self._writer is not None:
            self._writer.close()

    def add(self, report: StepReport) -> None:
        """Write one step."""
        self.last_loss = report.loss
        if self._file is None:
            return
        row = {key: value for key, value in asdict(report).items() if key not in ("steps", "left")}
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        if self._writer is not None:
            for name in ("loss", "grad_norm", "rate", "samples"):
                self._writer.add_scalar(name, row[name], report.step)

    def _kept(self) -> list[str]:
        """The whole lines of steps that the checkpoint has seen."""
        if not self._path.is_file():
            return []
        lines = []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= self._from:
                    lines.append(line)
            except (ValueError, KeyError, TypeError):
                break  # the line that a killed run was writing
        return lines
