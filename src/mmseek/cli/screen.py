"""Rich's console for our two streams. Imported late: `--help` needs no rich."""

from __future__ import annotations

import os
import sys

from rich.console import Console

__all__ = ["Screen"]

_LOG_WIDTH = 140


class Screen(Console):
    """Prints text as it is: no markup, no emoji codes, no guesses of what is a number.

    What is not a terminal (a pipe, a log) gets lines so wide that tables are not folded, unless COLUMNS says otherwise.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        stream = sys.stderr if stderr else sys.stdout
        wide = None if stream.isatty() or "COLUMNS" in os.environ else _LOG_WIDTH
        super().__init__(file=stream, width=wide, highlight=False, markup=False, emoji=False)

    def on_broken_pipe(self) -> None:
        """Let the program end as it does wherever its reader goes away."""
        raise BrokenPipeError
