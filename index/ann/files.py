"""The `ann/` folder of a collection: what was built, from which state, and its files with their checksums.

    ann/settings.json   which kind is wanted, to which recall; stays when a build is lost
    ann/queries.f32     sample query vectors that recall is measured with
    ann/current.json    the build that is in use; replaced as a whole, after its files are durable
    ann/000007.index    FAISS's file
    ann/000007-2.places rows, segments and positions of its vectors

Everything here is derived, settings and sample queries apart. What `current.json` does not name is garbage.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mmseek.errors import CorruptCollection
from mmseek.index.ann.places import Places
from mmseek.index.ann.plan import Plan, check_kind
from mmseek.index.durable import make_folder, replace_file, sync, sync_folder, write_file
from mmseek.index.ledger import State

if TYPE_CHECKING:
    from mmseek._types import FloatArray

FOLDER = "ann"
CURRENT = "current.json"
_SETTINGS = "settings.json"
_QUERIES = "queries.f32"
_PIECE = 4 * 2**20
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Settings:
    """What is wanted. `memory` is in bytes; None leaves the choice to the machine."""

    kind: str
    recall: float = 0.95
    memory: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "recall": self.recall, "memory": self.memory}


@dataclass(frozen=True, slots=True)
class Build:
    """What was built.

    Args:
        number: counts builds.
        plan: how it is searched.
        rows: vectors in it, the dead ones included.
        trained: vectors there were when it was trained.
        state: of the ledger that it was built from.
        segments: rows of each segment file that it refers to.
        recall: recall@10 that was measured, or None if it was not.
        milliseconds: of one search when that was measured, on the machine that built it.
        longest: length of the longest vector.
        measured_on: with what: `queries`, or `documents` where no sample queries were given.
        spots: some rows and the hashes of their vectors, by which another past of the same collection is seen.
        files: for each file its bytes and its BLAKE2b.
    """

    number: int
    plan: Plan
    dim: int
    rows: int
    trained: int
    state: State
    segments: Mapping[int, int]
    recall: float | None
    milliseconds: float
    longest: float
    measured_on: str
    spots: Mapping[int, str]
    files: Mapping[str, tuple[int, str]] = field(default_factory=dict)

    @property
    def index_file(self) -> str:
        return f"{self.number:06d}.index"

    @property
    def places_file(self) -> str:
        return f"{self.number:06d}-{self.state.epoch}.places"

    def to_json(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "number": self.number,
            "plan": self.plan.to_json(),
            "dim": self.dim,
            "rows": self.rows,
            "trained": self.trained,
            "state": list(self.state),
            "segments": {str(number): rows for number, rows in self.segments.items()},
            "recall": self.recall,
            "milliseconds": self.milliseconds,
            "longest": self.longest,
            "measured_on": self.measured_on,
            "spots": {str(row): digest for row, digest in self.spots.items()},
            "files": {name: list(file) for name, file in self.files.items()},
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Build:
        if body["format_version"] != FORMAT_VERSION:
            raise ValueError(body["format_version"])
        return cls(
            number=int(body["number"]),
            plan=Plan.from_json(body["plan"]),
            dim=int(body["dim"]),
            rows=int(body["rows"]),
            trained=int(body["trained"]),
            state=State(*map(int, body["state"])),
            segments={int(number): int(rows) for number, rows in body["segments"].items()},
            recall=None if body["recall"] is None else float(body["recall"]),
            milliseconds=float(body["milliseconds"]),
            longest=float(body["longest"]),
            measured_on=str(body["measured_on"]),
            spots={int(row): str(digest) for row, digest in body["spots"].items()},
            files={str(name): (int(size), str(digest)) for name, (size, digest) in body["files"].items()},
        )


class AnnFolder:
    """Reads and writes one collection's `ann/`; only the holder of the collection's lock writes."""

    def __init__(self, root: Path) -> None:
        self.path = root / FOLDER
        self._place = f"{self.path}{os.sep}"

    def key(self, name: str = CURRENT) -> tuple[int, int] | None:
        """Changes whenever another build comes into use, or the file of this name changes; None where there is none."""
        try:
            status = os.stat(f"{self._place}{name}")  # noqa: PTH116  # asked by every search: a path object is slower
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns

    def settings(self) -> Settings | None:
        """What is wanted, or None where nothing was ever asked for, or the file is damaged."""
        body = self.read_sealed(_SETTINGS)
        try:
            if body is not None:
                memory = body["memory"]
                return Settings(
                    check_kind(body["kind"]), float(body["recall"]), None if memory is None else int(memory)
                )
        except (KeyError, TypeError, ValueError):
            pass
        return None

    def write_settings(self, settings: Settings) -> None:
        self.write_sealed(_SETTINGS, settings.to_json())

    def queries(self, dim: int) -> FloatArray:
        """Sample query vectors (n, dim); n is 0 where there are none."""
        try:
            raw = (self.path / _QUERIES).read_bytes()
        except OSError:
            raw = b""
        if len(raw) % (4 * dim):
            raw = b""
        found = np.frombuffer(raw, dtype="<f4").reshape(-1, dim)
        usable: FloatArray = found[np.isfinite(found).all(axis=1)]
        return usable

    def write_queries(self, queries: FloatArray) -> None:
        make_folder(self.path)
        replace_file(self.path / _QUERIES, np.ascontiguousarray(queries, dtype="<f4").tobytes())

    def build(self) -> Build | None:
        """The build in use, or None.

        Raises:
            CorruptCollection: `current.json` is damaged.
        """
        path = self.path / CURRENT
        body = self.read_sealed(CURRENT)
        if body is None:
            if path.exists():
                raise CorruptCollection(f"{path} is damaged: run `mmseek tune`, which builds the index anew")
            return None
        try:
            return Build.from_json(body)
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptCollection(f"{path} cannot be used: run `mmseek tune`, which builds the index anew") from error

    def put(self, build: Build, places: Places) -> Build:
        """Bring a build into use whose index file is written; removes those before it. Returns it with its checksums.

        Raises:
            OSError: the disk is full or failing; the build before stays in use.
        """
        body = b"".join(
            np.ascontiguousarray(part, dtype=kind).tobytes()
            for part, kind in zip(places, ("<i8", "<i4", "<i4"), strict=True)
        )
        write_file(self.path / build.places_file, body)
        index = self.path / build.index_file
        with index.open("rb+") as file:
            sync(file.fileno())
        sync_folder(self.path)
        names = (build.index_file, build.places_file)
        files = {name: ((self.path / name).stat().st_size, hash_of(self.path / name)) for name in names}
        done = replace(build, files=files)
        replace_file(self.path / CURRENT, _sealed(done.to_json()))
        self.clean({*names})
        return done

    def clean(self, used: set[str]) -> None:
        """Remove what no build uses: what a killed writer left, and the build before."""
        for path in self.path.iterdir() if self.path.exists() else ():
            if path.suffix in {".index", ".places", ".tmp"} and path.name not in used:
                with suppress(OSError):  # Windows keeps a file that a reader has mapped; the next writer removes it
                    path.unlink(missing_ok=True)

    def drop(self) -> None:
        """Back to searching exactly; the sample queries stay."""
        for name in (CURRENT, _SETTINGS):
            (self.path / name).unlink(missing_ok=True)
        self.clean(set())

    def problems(self) -> list[str]:
        """What `verify` says of this folder: files of the build in use that are not what was written."""
        found: list[str] = []
        for _ in range(3):
            key = self.key()
            found = self._problems_once()
            if not found or key == self.key():  # a writer has not put another build in its place meanwhile
                break
        return found

    def _problems_once(self) -> list[str]:
        try:
            build = self.build()
        except CorruptCollection as error:
            return [str(error)]
        found = [] if build is None else [problem for name in build.files if (problem := self.damage(build, name))]
        settings = self.path / _SETTINGS
        if settings.exists() and self.settings() is None:
            found.append(f"{settings} is damaged: run `mmseek tune` again")
        return found

    def damage(self, build: Build, name: str) -> str | None:
        """What is wrong with a file of a build, or None."""
        path = self.path / name
        size, digest = build.files[name]
        try:
            if path.stat().st_size == size and hash_of(path) == digest:
                return None
        except OSError as error:
            return f"{path} cannot be read ({error.strerror}): run `mmseek tune`, which builds it anew"
        return f"{path} does not have its checksum: run `mmseek tune`, which builds it anew"

    def places(self, build: Build) -> Places:
        """Where a build's vectors are; the arrays lie in the file, mapped."""
        path = self.path / build.places_file
        if not build.rows:
            return Places(*(np.empty(0, dtype=kind) for kind in ("<i8", "<i4", "<i4")))
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        n = build.rows
        if len(mapped) != 16 * n:
            raise CorruptCollection(f"{path} is not of {n} rows: run `mmseek tune`, which builds it anew")
        return Places(
            np.frombuffer(mapped, "<i8", n),
            np.frombuffer(mapped, "<i4", n, 8 * n),
            np.frombuffer(mapped, "<i4", n, 12 * n),
        )

    def write_sealed(self, name: str, body: dict[str, Any]) -> None:
        """Write a file with a checksum over what it says."""
        make_folder(self.path)
        replace_file(self.path / name, _sealed(body))

    def read_sealed(self, name: str) -> dict[str, Any] | None:
        """What such a file says; None where it is missing or damaged."""
        try:
            body = json.loads((self.path / name).read_bytes())
            seal = body.pop("checksum")
            return body if seal == _seal(body) else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None


def hash_of(path: Path) -> str:
    """BLAKE2b of a file, read rather than mapped: mapped pages would count as this process's memory."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb", buffering=0) as file:
        piece = bytearray(_PIECE)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        while size := file.readinto(piece):
            digest.update(memoryview(piece)[:size])
    return digest.hexdigest()


def _sealed(body: dict[str, Any]) -> bytes:
    return (json.dumps({**body, "checksum": _seal(body)}, indent=1) + "\n").encode()


def _seal(body: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(body, sort_keys=True).encode(), digest_size=16).hexdigest()
