"""Items that failed: the file that lists them all, and the few that are shown at once."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmseek.cli.options import write_text
from mmseek.cli.output import count, say
from mmseek.errors import ItemError, MmseekError

__all__ = ["failure_document", "settle_report", "show_failures", "write_failures"]

_SHOWN = 5


def failure_document(error: ItemError) -> dict[str, Any]:
    """A failure in JSON; what is not known is null."""
    return {"source": error.source, "line": error.line, "id": error.item_id, "reason": error.reason}


def write_failures(path: Path, failures: Sequence[ItemError]) -> None:
    """One failure a line, as the report of an indexing run writes them.

    Raises:
        ConfigError: the disk refuses it.
    """
    rows = (json.dumps({"status": "failed", **failure_document(failure)}) for failure in failures)
    write_text(path, "".join(f"{row}\n" for row in rows))


def settle_report(
    path: Path, failures: Sequence[ItemError], *, asked: bool, write: Callable[[Path], None]
) -> Path | None:
    """Write a report if something failed; if not, take away the one that an earlier run left under its default name.

    Args:
        path: the report.
        failures: what failed in this run.
        asked: the user named the file, so it is written even if nothing failed.
        write: writes it.

    Returns:
        the report's path if there is one.

    Raises:
        MmseekError: a file that the user named cannot be written.
    """
    if not failures and not asked:
        path.unlink(missing_ok=True)
        return None
    try:
        write(path)
    except MmseekError as error:
        # The work is done; only a file that the user asked for is worth an error.
        if asked:
            raise
        say(f"note: {error}")
        return None
    return path


def show_failures(failures: Sequence[ItemError], report: Path | None) -> None:
    """Name the first few on stderr and say where all of them stand."""
    if not failures:
        return
    say(f"{count(len(failures), 'item')} failed:")
    for failure in failures[:_SHOWN]:
        say(f"  {failure}")
    if len(failures) > _SHOWN:
        say(f"  ... and {len(failures) - _SHOWN:,} more")
    if report is not None:
        say(f"the full list: {report}")
