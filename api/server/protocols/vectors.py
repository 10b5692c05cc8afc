"""Vectors as other systems send them: shortened, as numbers, bits or base64."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mmseek.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmseek._types import FloatArray

KINDS: Final = ("float", "int8", "uint8", "binary", "ubinary")


def shorten(rows: FloatArray, dimensions: int | None) -> FloatArray:
    """The first `dimensions` numbers of each row (n, dim), at length 1 again.

    Raises:
        InputError: the rows have fewer.
    """
    if dimensions is None or dimensions == rows.shape[1]:
        return rows
    if not 1 <= dimensions <= rows.shape[1]:
        raise InputError(f"{dimensions} dimensions are asked for, and the model has {rows.shape[1]}: ask for fewer")
    cut = rows[:, :dimensions].astype(np.float64)
    lengths = np.linalg.norm(cut, axis=1, keepdims=True)
    return np.asarray(cut / np.where(lengths, lengths, 1.0), dtype=np.float32)


def quantise(rows: FloatArray, kind: str) -> NDArray[Any]:
    """Rows (n, dim) as one of `KINDS`.

    `int8` scales each row so that its largest number is 127, which keeps its direction; `uint8` is that plus 128.
    `ubinary` packs the signs, eight numbers a byte, the first in the highest bit; `binary` is that minus 128.

    Raises:
        InputError: there is no such kind, or the length cannot be packed.
    """
    if kind == "float":
        return rows
    if kind in ("int8", "uint8"):
        largest = np.abs(rows).max(axis=1, keepdims=True)
        scaled = np.rint(rows * (127.0 / np.where(largest, largest, 1.0)))
        return scaled.astype(np.int8) if kind == "int8" else (scaled + 128).astype(np.uint8)
    if kind not in ("binary", "ubinary"):
        raise InputError(f"{kind[:40]!r} is no type of embeddings here: use {', '.join(KINDS)} or base64")
    if rows.shape[1] % 8:
        raise InputError(f"{rows.shape[1]} dimensions cannot be packed into bytes: ask for a multiple of 8")
    packed = np.packbits(rows > 0, axis=1)
    return packed if kind == "ubinary" else (packed.astype(np.int16) - 128).astype(np.int8)


def as_lists(rows: NDArray[Any]) -> list[list[float]]:
    """Rows as lists of numbers."""
    found: list[list[float]] = rows.tolist()
    return found


def as_base64(rows: NDArray[Any]) -> list[str]:
    """Each row's numbers, little-endian, as base64."""
    little = np.ascontiguousarray(rows.astype(rows.dtype.newbyteorder("<"), copy=False))
    return [base64.b64encode(row.tobytes()).decode("ascii") for row in little]
