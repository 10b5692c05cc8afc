"""A `.npy` file that grows row by row and appears under its name only when it is whole."""

from __future__ import annotations

import io
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np

from mmseek.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class RowWriter:
    """Write rows of shape (dim,) in bounded memory; `finish` puts the file (n, dim) in place atomically.

    Without a `dim`, a row is one number and the file is of shape (n,). `dtype` is numpy's name of the numbers' type.

    Leaving without `finish` leaves nothing, and a file that was there before stays as it was.

    Raises:
        ConfigError: the folder refuses the file, or the disk is full.
    """

    def __init__(self, path: Path, dim: int | None, dtype: str = "<f4") -> None:
        self._path = path
        self._dtype = dtype
        self._shape = () if dim is None else (dim,)
        self.rows = 0
        try:
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        except OSError as error:
            raise self._refused(error) from error
        self._temporary = Path(name)
        self._stream: BinaryIO = os.fdopen(handle, "wb")
        self._header_size = len(self._header(0))
        self._write(self._header(0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # what could not be flushed is thrown away anyhow
            self._stream.close()
        self._temporary.unlink(missing_ok=True)

    def add(self, row: NDArray[Any]) -> None:
        """Append one row of shape (dim,), or () where there is no dim."""
        if row.shape != self._shape:
            raise ValueError(f"a row of shape {row.shape} in a file of rows of shape {self._shape}")
        self._write(np.ascontiguousarray(row, dtype=self._dtype).tobytes())
        self.rows += 1

    def finish(self) -> None:
        """Write the final header, make the file durable and give it its name."""
        header = self._header(self.rows)
        if len(header) != self._header_size:
            raise ValueError("the header of the .npy file grew past the room that was kept for it")
        try:
            self._stream.seek(0)
            self._stream.write(header)
            self._stream.flush()
            os.fsync(self._stream.fileno())
            # mkstemp makes files that only their owner reads; a result is an ordinary file.
            self._temporary.chmod(0o666 & ~_umask())
            self._temporary.replace(self._path)
        except OSError as error:
            raise self._refused(error) from error

    def _header(self, rows: int) -> bytes:
        """numpy leaves room in the header for the first axis to grow, so that it can be rewritten in place."""
        buffer = io.BytesIO()
        shape = (rows, *self._shape)
        np.lib.format.write_array_header_1_0(buffer, {"descr": self._dtype, "fortran_order": False, "shape": shape})
        return buffer.getvalue()

    def _write(self, data: bytes) -> None:
        try:
            self._stream.write(data)
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> ConfigError:
        return ConfigError(f"{self._path} cannot be written ({error.strerror}): choose another place")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
