"""The lines of a file on their way through a model: which answer belongs to which line, and which lines failed."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from mmseek.cli.options import writable_file
from mmseek.cli.reports import settle_report, write_failures
from mmseek.errors import InputError, ItemError, MmseekError


@dataclass
class Lines:
    """The lines of a file that were handed to a model, which answers in their order, and what failed of all lines."""

    path: Path
    failures: list[ItemError] = field(default_factory=list)
    _waiting: deque[tuple[int, str | None]] = field(default_factory=deque)

    def sent(self, line: int, item_id: str | None) -> None:
        """Note what is asked next. The model may read ahead of its answers."""
        self._waiting.append((line, item_id))

    def answered(self, error: MmseekError | None) -> None:
        """Note the next answer; the answers come in the order of the questions."""
        line, item_id = self._waiting.popleft()
        if error is not None:
            reason = error.reason if isinstance(error, ItemError) else str(error)
            self.failures.append(ItemError(reason, source=self.path, line=line, item_id=item_id))

    def settle(self) -> None:
        """Put the failures in the order of the file: those of reading were noted ahead of those of the model."""
        self.failures.sort(key=lambda failure: failure.line or 0)


def check_files(source: Path, output: Path, what: str, suffix: str = ".npy") -> None:
    """Refuse what cannot work before a model is loaded. `what` the lines of `source` are: `items`, say.

    Raises:
        InputError: the output has another suffix or cannot be written, or the source is not there.
    """
    if output.suffix != suffix:
        raise InputError(f"--output {output} does not end in {suffix}, which is what is written: name it so")
    writable_file(output, "--output")
    if not source.exists():
        raise InputError(f"{source} does not exist: give a JSONL file of {what}")


def report_failures(failures: list[ItemError], output: Path) -> Path | None:
    """List the failures beside the output, or remove the list of an earlier run; where it is, if any."""
    return settle_report(
        output.with_name(f"{output.name}.failures.jsonl"),
        failures,
        asked=False,
        write=lambda to: write_failures(to, failures),
    )
