"""Reading the tokens of documents out of their files, of which some may be unlinked meanwhile."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Mapping
from io import BufferedReader
from typing import TYPE_CHECKING

import numpy as np

from mmseek.errors import CorruptCollection
from mmseek.index.segments import Segments

if TYPE_CHECKING:
    from mmseek.index.segments import HalfArray


class TokenFiles:
    """The segments of tokens, held open: a file that a compaction unlinks stays readable. Safe in several threads.

    Args:
        segments: of tokens.
    """

    def __init__(self, segments: Segments) -> None:
        self._segments = segments
        self._guard = threading.Lock()
        self._files: dict[int, BufferedReader] = {}
        self._close = weakref.finalize(self, _close_all, self._files)

    def hold(self, used: Mapping[int, int]) -> None:
        """Open the files of these segments, which have so many rows.

        Raises:
            CorruptCollection: one is missing or shorter.
        """
        for segment, rows in used.items():
            if segment not in self._files:
                self._files[segment] = self._segments.opened(segment, rows)

    def read(self, segment: int, start: int, count: int) -> HalfArray:
        """`count` rows from `start` on, float16 (count, dim).

        Raises:
            CorruptCollection: the file ends early.
        """
        rows = np.empty((count, self._segments.dim), dtype="<f2")
        width = rows.itemsize * self._segments.dim
        with self._guard:
            # Past the buffer: it may hold what a call that failed had written where another has written since.
            file = self._files[segment].raw
            file.seek(start * width, os.SEEK_SET)
            got = file.readinto(rows.data.cast("B"))
        if got != rows.nbytes:
            raise CorruptCollection(f"{self._segments.path(segment)} ends early: run `mmseek verify`")
        return rows

    def close(self) -> None:
        """Close the files; a second call does nothing."""
        with self._guard:
            self._close()


def _close_all(files: dict[int, BufferedReader]) -> None:
    while files:
        files.popitem()[1].close()
