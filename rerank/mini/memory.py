"""What the towers gave lately, so that a picture that comes back with the next query is not looked at again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from mmseek._types import FloatArray

__all__ = ["Memory"]

Key = TypeVar("Key", bound=Hashable)


class Memory(Generic[Key]):
    """Rows by their keys; of more than `size`, those not asked for longest are forgotten. Thread-safe."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._rows: OrderedDict[Key, FloatArray] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._rows)

    def rows(
        self, keys: Iterable[Key], make: Callable[[Sequence[Key]], dict[Key, FloatArray]]
    ) -> dict[Key, FloatArray]:
        """The row of each key; `make` is called once, with those that are not known."""
        wanted = list(dict.fromkeys(keys))
        with self._lock:
            found = {key: self._rows[key] for key in wanted if key in self._rows}
        missing = [key for key in wanted if key not in found]
        made = make(missing) if missing else {}
        with self._lock:
            for key, row in {**found, **made}.items():
                self._rows[key] = row
                self._rows.move_to_end(key)
            while len(self._rows) > self._size:
                self._rows.popitem(last=False)
        return found | made
