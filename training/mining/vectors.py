"""Vectors of a pool in files of a few thousand rows, so that encoding a large pool survives being killed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from mmseek._types import EncodeRequest
from mmseek.errors import EncodeError

if TYPE_CHECKING:
    from mmseek._types import FloatArray
    from mmseek.protocols import Encoder

__all__ = ["SHARD", "Shards", "encode_all"]

SHARD: Final = 2048


class Shards:
    """The files of one side (queries or documents), in order. Rows of what could not be encoded are NaN."""

    def __init__(self, paths: Sequence[Path], failures: Sequence[tuple[int, str]]) -> None:
        self._paths = list(paths)
        self.failures = dict(failures)

    def __iter__(self) -> Iterator[FloatArray]:
        for path in self._paths:
            yield np.load(path, allow_pickle=False)

    def whole(self) -> FloatArray:
        """All of it in memory: (n, dim)."""
        return np.concatenate(list(self))


def encode_all(
    requests: Iterable[EncodeRequest],
    encoder: Encoder,
    folder: Path,
    name: str,
    on_progress: Callable[[int], None],
) -> Shards:
    """Encode what is not encoded yet.

    Args:
        requests: always the same ones in the same order.
        encoder: whose vectors they are; the folder must be of no other.
        folder: where the files are.
        name: of the side.
        on_progress: told how many are done.

    Raises:
        EncodeError: the encoder loses or adds items.
    """
    paths, failures = [], []
    source, done = iter(requests), 0
    while shard := list(islice(source, SHARD)):
        path = folder / f"{name}-{done // SHARD:06d}.npy"
        note = path.with_suffix(".json")
        key = _key(shard)
        known = json.loads(note.read_text()) if path.is_file() and note.is_file() else {}
        if known.get("key") != key:
            known = {"key": key, "failed": _encode(shard, encoder, path)}
            _write(note, json.dumps(known).encode())
        failures += [(done + int(place), reason) for place, reason in known["failed"]]
        paths.append(path)
        done += len(shard)
        on_progress(done)
    return Shards(paths, failures)


def _encode(shard: Sequence[EncodeRequest], encoder: Encoder, path: Path) -> list[tuple[int, str]]:
    rows = np.full((len(shard), encoder.identity.dim), np.nan, dtype=np.float32)
    failed, place = [], -1
    for place, outcome in enumerate(encoder.stream(shard)):
        if outcome.vector is None:
            failed.append((place, str(outcome.error)))
        else:
            rows[place] = outcome.vector
    if place + 1 != len(shard):
        raise EncodeError(f"encoder {encoder.identity.spec} gave {place + 1} outcomes for {len(shard)} items")
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.save(file, rows, allow_pickle=False)
    part.replace(path)
    return failed


def _write(path: Path, data: bytes) -> None:
    part = path.with_suffix(".part")
    part.write_bytes(data)
    part.replace(path)


def _key(shard: Sequence[EncodeRequest]) -> str:
    return hashlib.sha256(repr(shard).encode("utf-8", "surrogatepass")).hexdigest()
