"""Linear layers whose weights MKL has laid out once, in place of at every call.

A product of matrices on a CPU begins by copying the weights into the order in which they are read. With a few hundred
rows that is a tenth of the time. MKL can keep the copy, for products of one number of rows; torch calls it so in what
`torch.compile` makes. Work is cut into blocks of that many rows, which moreover stay in a core's cache between layers;
what is left over goes the plain way. Same float32 products, other order of sums: equal within 1e-6 here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from mmseek.models.device import memory_bytes

__all__ = ["ROWS", "PackedLinear", "in_blocks", "may_pack"]

ROWS: Final = 256
# Of this machine's memory for the copies of one model.
_SHARE: Final = 1 / 8
_PARTS: Final[tuple[Any, ...]] = (torch.backends.mkl, torch.backends.mkldnn)
# They are torch's own business, so a torch without them is none that is refused.
_OPERATIONS: Final = ("_mkl_reorder_linear_weight", "_mkl_linear")


def may_pack(device: str, weights: int) -> bool:
    """Whether torch can keep laid-out weights on the device, and the machine has room for `weights` floats more."""
    if device != "cpu" or not all(part.is_available() for part in _PARTS):
        return False
    room = memory_bytes(device)
    fits = room is None or 4 * weights <= _SHARE * room
    return fits and all(hasattr(torch.ops.mkl, name) for name in _OPERATIONS)


class PackedLinear:
    """`x -> x W^T + b`, of x (rows, inputs), float32. Safe to use from several threads.

    Args:
        weight: (outputs, inputs).
        bias: (outputs,), or None.
        rows: for how many rows the weights are laid out, at the first such call; 0 for none. Any other number of rows
            goes the plain way.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, rows: int = 0) -> None:
        self.weight = weight
        self.bias = bias
        self._rows = rows
        self._laid_out: Tensor | None = None
        self._lock = threading.Lock()

    def __call__(self, x: Tensor) -> Tensor:
        if self._rows == 0 or len(x) != self._rows:
            return F.linear(x, self.weight, self.bias)
        if self._laid_out is None:
            with self._lock:
                if self._laid_out is None:
                    self._laid_out = torch.ops.mkl._mkl_reorder_linear_weight(self.weight, self._rows)  # noqa: SLF001
        product: Tensor = torch.ops.mkl._mkl_linear(x, self._laid_out, self.weight, self.bias, self._rows)  # noqa: SLF001
        return product

    def part(self, outputs: slice, x: Tensor) -> Tensor:
        """Some of the outputs, the plain way."""
        return F.linear(x, self.weight[outputs], None if self.bias is None else self.bias[outputs])


def in_blocks(step: Callable[..., Tensor], size: int, *inputs: Tensor) -> Tensor:
    """What a step that looks at each row by itself makes of inputs (rows, ...), block after block."""
    rows = len(inputs[0])
    if size == 0 or rows <= size:
        return step(*inputs)
    out: Tensor | None = None
    for start in range(0, rows, size):
        block = slice(start, start + size)
        made = step(*(each[block] for each in inputs))
        if out is None:
            out = made.new_empty(rows, *made.shape[1:])
        out[block] = made
    assert out is not None
    return out
