"""`mmseek rerank`: pairs to scores in a `.npy` file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmseek.cli.failures import EXIT_PARTIAL
from mmseek.cli.lines import Lines, check_files, report_failures
from mmseek.cli.opening import load_scorer
from mmseek.cli.options import DeviceOption, JsonOption
from mmseek.cli.output import count, one_line, say, verb_output
from mmseek.cli.progress import Meter
from mmseek.cli.reports import show_failures
from mmseek.errors import InputError, ItemError

if TYPE_CHECKING:
    from mmseek._types import Pair
    from mmseek.protocols import Reranker


def rerank(
    pairs: Annotated[Path, typer.Argument(metavar="PAIRS.jsonl", help="One pair a line.", show_default=False)],
    reranker: Annotated[
        str,
        typer.Option(
            "--reranker",
            "-r",
            metavar="SPEC",
            help="family:model[@revision]; `mmseek models` lists them.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT.npy", help="float32, one score a pair.", show_default=False)
    ],
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score the pairs of a JSONL file into a .npy file.

    A line is {"query": item, "document": item, "instruction": text}, the last if wanted. The scores are in input order,
    float32, higher is better.

    A line that cannot be scored has no score: it is named with its reason on stderr and in OUT.npy.failures.jsonl, its
    number is in "failed_lines" of --json, the rest goes on, and the exit code is 1. If no line can be scored, nothing
    is written. The file appears under its name only when it is whole.
    """
    with verb_output(as_json) as out:
        from rich.text import Text

        check_files(pairs, output, "pairs")
        began = time.monotonic()
        model = load_scorer(reranker, device)
        source = _Source(pairs)
        rows = _write_scores(source, model, output)
        report = report_failures(source.failures, output)
        out.json(
            {
                "output": str(output),
                "scores": rows,
                "reranker": model.identity.spec,
                "fingerprint": model.identity.fingerprint,
                "failed": len(source.failures),
                "failed_lines": [failure.line for failure in source.failures],
                "report": None if report is None else str(report),
                "seconds": round(time.monotonic() - began, 3),
            }
        )
        out.show(Text(f"wrote {count(rows, 'score')} to {one_line(str(output))}"))
        show_failures(source.failures, report)
        if source.failures:
            say("the lines that failed have no score; the others are in input order")
            raise typer.Exit(EXIT_PARTIAL)


class _Source(Lines):
    """The lines of the file as pairs."""

    def pairs(self) -> Iterator[Pair]:
        """What the reranker is asked, in the order of the file."""
        from mmseek.rerank.pairs import read_pairs

        for row in read_pairs(self.path):
            if isinstance(row, ItemError):
                self.failures.append(row)
                continue
            self.sent(row.line, row.id)
            yield row.pair


def _write_scores(source: _Source, model: Reranker, output: Path) -> int:
    """Score everything into the file and return how many scores it has.

    Raises:
        InputError: not one pair could be scored; nothing was written.
    """
    import numpy as np

    from mmseek.cli.rows import RowWriter

    with RowWriter(output, None) as writer, Meter("scoring") as meter:
        for answer in model.stream(source.pairs()):
            error = answer.error
            if answer.score is None and error is None:
                error = ItemError("the reranker gave no usable score")
            source.answered(error)
            if answer.score is not None and error is None:
                writer.add(np.asarray(answer.score, dtype=np.float32))
            meter.update(writer.rows + len(source.failures), len(source.failures))
        source.settle()
        if writer.rows == 0:
            first = f"; the first reason: {source.failures[0]}" if source.failures else ""
            raise InputError(f"{source.path} holds no pair that can be scored, nothing was written{first}")
        writer.finish()
        return writer.rows
