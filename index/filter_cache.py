"""The rows that a filter allows, remembered for as long as the collection does not change.

Asking SQLite costs a few microseconds for each document; the same filter is asked again and again (a page of results, a
tenant, a language), and between two changes its answer cannot differ.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, TypeAlias

from mmseek.index.filter_sql import Condition
from mmseek.index.ledger import Snapshot

if TYPE_CHECKING:
    from mmseek.protocols import RowArray

_MOST_BYTES = 64 * 2**20
_MOST_KEY = 4096  # characters; longer conditions name candidates, which do not come twice

_Key: TypeAlias = tuple[str, tuple[tuple[type, object], ...]]


class FilterCache:
    """Answers of one generation; what was not asked for longest goes first. Safe to use from several threads."""

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._guard = threading.Lock()
        self._generation = -1
        self._answers: OrderedDict[_Key, RowArray] = OrderedDict()
        self._bytes = 0

    def rows(self, snapshot: Snapshot, condition: Condition) -> RowArray:
        """Row numbers (n,) of the documents that a condition holds for, as a snapshot sees them; not to be changed."""
        generation = snapshot.state().generation
        key = _key(condition)
        with self._guard:
            if generation == self._generation and key in self._answers:
                self._answers.move_to_end(key)
                return self._answers[key]
        found = snapshot.rows_where(condition)
        found.flags.writeable = False
        if sum(len(str(value)) for _, value in key[1]) <= _MOST_KEY:
            self._keep(generation, key, found)
        return found

    def _keep(self, generation: int, key: _Key, found: RowArray) -> None:
        with self._guard:
            if generation > self._generation:
                self._answers.clear()
                self._generation, self._bytes = generation, 0
            # A search that began before the last change has seen another state: its answer is nobody else's.
            if generation < self._generation or key in self._answers or found.nbytes > self._most_bytes:
                return
            self._answers[key] = found
            self._bytes += found.nbytes
            while self._bytes > self._most_bytes:
                _, gone = self._answers.popitem(last=False)
                self._bytes -= gone.nbytes


def _key(condition: Condition) -> _Key:
    """To Python 1, 1.0 and True are equal; to a filter they are not."""
    return condition.sql, tuple((type(value), value) for value in condition.parameters)
