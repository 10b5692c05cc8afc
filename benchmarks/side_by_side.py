"""Times several paths over the same work, in turn, and reports ratios: what the benchmarks of this folder share."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from rich.console import Console
from rich.table import Table

Result = TypeVar("Result")
Item = TypeVar("Item")


def chunks(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    """The items in lists of `size`, the last perhaps shorter."""
    return (list(items[start : start + size]) for start in range(0, len(items), size))


class SideBySide:
    """Seconds of each path, round by round; ratios are of the same round, so a busy minute falls on both sides.

    Args:
        ours: the path whose speed the others are compared with.
    """

    def __init__(self, ours: str) -> None:
        self._ours = ours
        self._rounds: dict[str, list[tuple[float, float, int]]] = {}

    def time(self, path: str, items: int, work: Callable[[], Result]) -> Result:
        """Do the work and note its wall and processor seconds."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = work()
        self._rounds.setdefault(path, []).append((time.perf_counter() - wall, time.process_time() - cpu, items))
        return result

    def report(self, console: Console, title: str, **about: object) -> None:
        """A table on the console and one line of JSON on stdout."""
        ours = self._rounds[self._ours]
        table = Table(
            "path", "items/s", "times as fast (wall)", "(cpu)", title=f"{title}: {self._ours} beside other paths"
        )
        summary: dict[str, object] = {}
        for path, theirs in self._rounds.items():
            rate = statistics.median(items / wall for wall, _, items in theirs)
            wall, cpu = (
                statistics.median(b[kind] / a[kind] for a, b in zip(ours, theirs, strict=True)) for kind in (0, 1)
            )
            summary[path] = {"items_per_s": round(rate, 2), "wall": round(wall, 3), "cpu": round(cpu, 3)}
            table.add_row(path, f"{rate:.1f}", f"{wall:.2f}", f"{cpu:.2f}")
        console.print(table)
        rounds = {"rounds": len(ours), "items_a_round": ours[0][2]}
        print(json.dumps({"benchmark": f"encode_{title}", **about, **rounds, "paths": summary}))
