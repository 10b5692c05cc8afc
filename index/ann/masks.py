"""Which rows of a base may be found, ready for FAISS; kept for filters that are asked again and again."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmseek.protocols import RowArray

_MOST_BYTES = 32 * 2**20


@dataclass(frozen=True, slots=True)
class Mask:
    """Positions of a base that may be found.

    Args:
        flags: one for each position (n,).
        bits: the same in the order of FAISS's bitmaps (n / 8,).
        count: how many are set.
    """

    flags: NDArray[np.bool_]
    bits: NDArray[np.uint8]
    count: int

    @classmethod
    def of(cls, flags: NDArray[np.bool_]) -> Mask:
        return cls(flags, np.packbits(flags, bitorder="little"), int(np.count_nonzero(flags)))

    @property
    def share(self) -> float:
        """Of all positions, how many may be found."""
        return self.count / max(1, len(self.flags))


class MaskCache:
    """Masks by the very array of allowed rows that they were made of; what was not asked for longest goes first.

    Only arrays that nobody can write to are remembered, such as those of a `FilterCache`, which gives the same one
    until the collection changes. None stands for all living rows. Safe to use from several threads.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._guard = threading.Lock()
        # The array is kept with its mask, or another could come to stand at the same address.
        self._masks: OrderedDict[int, tuple[RowArray | None, Mask]] = OrderedDict()
        self._bytes = 0

    def get(self, allowed: RowArray | None, make: Callable[[], Mask]) -> Mask:
        """The mask of these rows: the one that is remembered, or what `make` gives."""
        if allowed is not None and allowed.flags.writeable:
            return make()
        key = id(allowed)
        with self._guard:
            if key in self._masks:
                self._masks.move_to_end(key)
                return self._masks[key][1]
        made = make()
        self._keep(key, allowed, made)
        return made

    def clear(self) -> None:
        """Forget all, for other rows are living now."""
        with self._guard:
            self._masks.clear()
            self._bytes = 0

    def _keep(self, key: int, allowed: RowArray | None, made: Mask) -> None:
        size = _size(allowed, made)
        with self._guard:
            if key in self._masks or size > self._most_bytes:
                return
            self._masks[key] = (allowed, made)
            self._bytes += size
            while self._bytes > self._most_bytes:
                _, gone = self._masks.popitem(last=False)
                self._bytes -= _size(*gone)


def _size(allowed: RowArray | None, mask: Mask) -> int:
    return mask.flags.nbytes + mask.bits.nbytes + (0 if allowed is None else allowed.nbytes)
