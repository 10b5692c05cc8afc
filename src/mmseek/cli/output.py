"""What goes where: results to stdout, everything else to stderr, and with `--json` exactly one document on stdout."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Output", "clean", "count", "duration", "one_line", "say", "size", "verb_output", "write_json"]


def clean(text: str) -> str:
    """Text that a terminal shows and does not obey: control characters (escape sequences, say) become spaces."""
    return "".join(" " if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") else char for char in text)


def one_line(text: str, limit: int | None = None) -> str:
    """Clean text on one line, cut to `limit` characters with an ellipsis."""
    # A long document is cut before it is cleaned: only its start is shown.
    head = text if limit is None else text[: 8 * limit]
    line = " ".join(clean(head).split())
    return line if limit is None or len(line) <= limit else line[: limit - 1].rstrip() + "…"


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 document`, `1,200 documents`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def size(count_of_bytes: int) -> str:
    """`812 B`, `3.4 MB`: in powers of 1000, as disks are sold."""
    amount, unit = float(count_of_bytes), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if amount < 999.5 or unit == "TB":
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`: rounded, for people who wait."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5970 else f"{seconds / 3600:.1f} h"


def say(message: str) -> None:
    """One line on stderr."""
    sys.stderr.write(clean(message) + "\n")
    sys.stderr.flush()


class Output:
    """The result of one verb: a JSON document or something to look at, never both."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._document: dict[str, Any] | None = None

    def json(self, document: dict[str, Any], *, now: bool = False) -> None:
        """Give the document. It is written when the verb has ended, so that an error is never a second one.

        Args:
            document: what to write.
            now: write it at once, for a verb that goes on running.
        """
        self._document = document
        if now:
            self.finish()

    def show(self, *things: RenderableType) -> None:
        """Print text and tables on stdout, unless the answer is JSON."""
        if self._stream is None:
            from mmseek.cli.screen import Screen

            screen = Screen()
            for thing in things:
                screen.print(thing)

    def finish(self) -> None:
        """Write the document, if JSON was asked for and there is one."""
        if self._stream is not None and self._document is not None:
            write_json(self._document, self._stream)
        self._document = None


@contextmanager
def verb_output(as_json: bool) -> Iterator[Output]:
    """Run a verb's body: with JSON asked for, whatever prints in between lands on stderr.

    A verb that leaves through `typer.Exit` (some items failed) still prints its document; one that raises does not.
    """
    import typer

    if not as_json:
        yield Output(None)
        return
    with _stdout_on_stderr() as stdout:
        out = Output(stdout)
        try:
            yield out
        except typer.Exit:
            out.finish()
            raise
        out.finish()


@contextmanager
def _stdout_on_stderr() -> Iterator[TextIO]:
    """Send stdout to stderr, for Python and for C libraries too, and give the real one for the document."""
    stdout = sys.stdout
    stdout.flush()
    real = stdout is sys.__stdout__
    saved = os.dup(1) if real else -1
    if real:
        os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            if real:
                with os.fdopen(os.dup(saved), "w", encoding="utf-8") as stream:
                    yield stream
            else:
                yield stdout
    finally:
        if real:
            os.dup2(saved, 1)
            os.close(saved)


def write_json(document: dict[str, Any], stream: TextIO) -> None:
    """Write one document and a newline; characters that the stream cannot say are escaped."""
    indent = 2 if stream.isatty() else None
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=indent)
    try:
        text.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(document, ensure_ascii=True, allow_nan=False, indent=indent)
    stream.write(text + "\n")
    stream.flush()
