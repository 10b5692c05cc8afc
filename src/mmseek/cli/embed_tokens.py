"""`mmseek embed` with an encoder of many vectors an item: a `.npz` file, one array an item."""

from __future__ import annotations

import io
import os
import tempfile
import zipfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmseek.cli.lines import Lines
from mmseek.cli.progress import Meter
from mmseek.errors import ConfigError, InputError, ItemError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mmseek._types import EncodeRequest, FloatArray, Role
    from mmseek.protocols import MultiVectorEncoder

__all__ = ["ItemNames", "write_arrays"]


class ItemNames:
    """What the arrays are called: an item by its id, one without an id by its line, `line 7`."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}
        self._waiting: deque[tuple[str, Role]] = deque()

    def claim(self, line: int, item_id: str | None, role: Role) -> ItemError | None:
        """Keep the name of the next item and its role; the error of one whose name is taken."""
        name = f"line {line}" if item_id is None else item_id
        before = self._taken.setdefault(name, line)
        if before != line:
            return ItemError(f"the id {name!r} stands in line {before} already: give each item its own", line=line)
        self._waiting.append((name, role))
        return None

    def next(self) -> tuple[str, Role]:
        """Name and role of the next answer, in the order of the items."""
        return self._waiting.popleft()


def write_arrays(
    source: Lines,
    names: ItemNames,
    requests: Iterable[EncodeRequest],
    model: MultiVectorEncoder,
    output: Path,
    factor: int,
) -> tuple[int, int]:
    """Encode everything into the file; how many arrays and how many vectors it has.

    Args:
        source: notes what fails.
        names: of the items, in the order of the requests.
        requests: what is encoded.
        model: the encoder.
        output: a `.npz` file, float32 arrays (tokens, dim), in place only when it is whole.
        factor: how many vectors of a document become one; queries keep all.

    Raises:
        InputError: not one item could be used; nothing was written.
        ConfigError: the file cannot be written.
    """
    from mmseek.embed.token_pooling import pool_tokens

    arrays = vectors = 0
    with _whole(output) as archive, Meter("encoding") as meter:
        for answer in model.stream_tokens(requests):
            (name, role), error = names.next(), answer.error
            if answer.vector is None and error is None:
                error = ItemError("the encoder gave no usable vectors")
            source.answered(error)
            if answer.vector is not None and error is None:
                kept = pool_tokens(answer.vector, factor) if role == "document" else answer.vector
                _add(archive, name, kept, output)
                arrays, vectors = arrays + 1, vectors + len(kept)
            meter.update(arrays + len(source.failures), len(source.failures))
        source.settle()
        if not arrays:
            first = f"; the first reason: {source.failures[0]}" if source.failures else ""
            raise InputError(f"{source.path} holds no item that can be encoded, nothing was written{first}")
    return arrays, vectors


def _add(archive: zipfile.ZipFile, name: str, array: FloatArray, output: Path) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(array, dtype="<f4"), allow_pickle=False)
    try:
        # A fixed date, so that equal vectors make equal files.
        archive.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue())
    except OSError as error:
        raise _refused(output, error) from error


@contextmanager
def _whole(output: Path) -> Iterator[zipfile.ZipFile]:
    """An archive that gets its name only if nothing is raised; what was there before stays otherwise."""
    try:
        handle, name = tempfile.mkstemp(prefix=f".{output.name}.", suffix=".tmp", dir=output.parent)
    except OSError as error:
        raise _refused(output, error) from error
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            with zipfile.ZipFile(stream, "w") as archive:
                yield archive
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes files that only their owner reads; a result is an ordinary file.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(output)
    except OSError as error:
        raise _refused(output, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _refused(output: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{output} cannot be written ({error.strerror}): choose another place")
