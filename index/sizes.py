"""How much a folder takes."""

from __future__ import annotations

from pathlib import Path


def bytes_below(folder: Path) -> int:
    """The sizes of all files below a folder; those that go meanwhile do not count."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue  # a temporary file
    return total
