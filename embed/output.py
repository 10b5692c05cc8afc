"""The number types that vectors are written in, and back.

- `float32`: as encoded.
- `float16`: rounded to the nearest.
- `int8`: each row by itself, `round(127 * v / max|v|)`. The largest value becomes 127 or -127, so no set of vectors is
  needed to calibrate, a row never depends on its neighbours, and nothing is clipped. The length is lost and the
  direction kept: compare by cosine, or turn the rows back with `restored`.
- `binary`: one bit a dimension, 1 where the value is above 0, eight to a byte with the first in the highest bit, as
  `numpy.packbits`. The last byte is filled with zeros. Compare by Hamming distance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import numpy as np

from mmseek.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmseek._types import FloatArray

__all__ = ["DTYPES", "OutputType", "quantised", "restored", "row_shape"]

OutputType: TypeAlias = Literal["float32", "float16", "int8", "binary"]
# Output type -> how numpy stores it, little-endian.
DTYPES: Final[dict[str, str]] = {"float32": "<f4", "float16": "<f2", "int8": "|i1", "binary": "|u1"}
_MOST: Final = 127


def quantised(vectors: FloatArray, dtype: OutputType) -> NDArray[Any]:
    """Vectors (..., dim), float32, in another type: (..., dim), for binary (..., ceil(dim / 8)) of uint8.

    Raises:
        InputError: there is no such type.
    """
    if dtype == "float32":
        return vectors
    if dtype == "float16":
        return vectors.astype(np.float16)
    if dtype == "int8":
        largest = np.abs(vectors).max(axis=-1, keepdims=True, initial=0.0)
        scale = np.divide(_MOST, largest, out=np.zeros_like(largest, dtype=np.float64), where=largest > 0)
        whole: NDArray[Any] = np.rint(vectors * scale).astype(np.int8)
        return whole
    if dtype == "binary":
        return np.packbits(vectors > 0, axis=-1)
    raise InputError(f"there is no output type {dtype!r}: take one of {', '.join(DTYPES)}")


def restored(rows: NDArray[Any], dtype: OutputType, dim: int) -> FloatArray:
    """Rows of `quantised` as float32 vectors (..., dim) of length 1: for binary, of equal values with the bits' signs.

    Raises:
        InputError: there is no such type.
    """
    if dtype not in DTYPES:
        raise InputError(f"there is no output type {dtype!r}: take one of {', '.join(DTYPES)}")
    wide = np.asarray(rows, dtype=np.float64)
    if dtype == "binary":
        wide = np.unpackbits(rows, axis=-1, count=dim).astype(np.float64) * 2 - 1
    lengths = np.linalg.norm(wide, axis=-1, keepdims=True)
    units: FloatArray = np.divide(wide, lengths, out=np.zeros_like(wide), where=lengths > 0).astype(np.float32)
    return units


def row_shape(dim: int, dtype: OutputType) -> tuple[int]:
    """The shape of one row of `dim` dimensions."""
    return ((dim + 7) // 8,) if dtype == "binary" else (dim,)
