"""Pictures that came as bytes, where there is no folder for them: as points of the collection, in pieces.

They are read through a folder of this machine, for whoever shows or encodes a picture wants a file.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Protocol

from mmseek.errors import CorruptCollection
from mmseek.index.assets import AssetStore, asset_name
from mmseek.index.durable import make_folder, replace_file, storage_errors
from mmseek.index.qdrant.store import Point, Store

_PIECE = 3 * 1024**2  # bytes; a third more in base64


class Pictures(Protocol):
    """The pictures of one collection, each under the name that its bytes give it."""

    def put(self, pictures: Iterable[bytes]) -> None:
        """Keep pictures; durable on return."""
        ...

    def path(self, name: str) -> Path:
        """A file with the picture of this name."""
        ...

    def problem_of(self, name: str) -> str | None:
        """What is wrong with a kept picture, or None."""
        ...

    def keep_only(self, used: set[str]) -> None:
        """Remove the pictures that nothing refers to."""
        ...


class FolderPictures:
    """In a folder of the collection."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._store = AssetStore(folder)

    def put(self, pictures: Iterable[bytes]) -> None:
        with storage_errors(self._folder):
            self._store.put(pictures)

    def path(self, name: str) -> Path:
        return self._store.path(name)

    def problem_of(self, name: str) -> str | None:
        return self._store.problem(self._store.path(name))

    def keep_only(self, used: set[str]) -> None:
        for name in self._store.names():
            if name not in used:
                self._store.remove(name)


class PointPictures:
    """In points of the collection, each piece under the hash of the picture's name and its number.

    Args:
        store: the collection.
        cache: a folder of this machine where pictures that were read are kept.
    """

    def __init__(self, store: Store, cache: Path) -> None:
        self._store = store
        self._cache = cache

    def put(self, pictures: Iterable[bytes]) -> None:
        for data in pictures:
            name = asset_name(data)
            pieces = [data[low : low + _PIECE] for low in range(0, len(data), _PIECE)] or [b""]
            if len(self._store.retrieve([_piece_id(name, n) for n in range(len(pieces))], ["pieces"])) == len(pieces):
                continue
            for number, piece in enumerate(pieces):
                payload = {"asset": name, "pieces": len(pieces), "data": base64.b64encode(piece).decode()}
                self._store.upsert([Point(_piece_id(name, number), payload)])

    def path(self, name: str) -> Path:
        """A file with the picture; read from the collection where it is not on this machine yet.

        Raises:
            CorruptCollection: the collection does not have it, or has it damaged.
        """
        path = self._cache / PurePosixPath(name)
        if path.exists() and AssetStore.problem(path) is None:
            return path
        data = self._read(name)
        if data is None or hashlib.sha256(data).hexdigest() != path.stem:
            raise CorruptCollection(
                f"{self._store.place}: the picture {name} is missing or damaged: see `mmseek verify`"
            )
        with storage_errors(self._cache):
            make_folder(path.parent)
            replace_file(path, data)
        return path

    def problem_of(self, name: str) -> str | None:
        data = self._read(name)
        if data is None:
            return "is missing"
        damaged = hashlib.sha256(data).hexdigest() != PurePosixPath(name).stem
        return "does not have the content it was stored with" if damaged else None

    def keep_only(self, used: set[str]) -> None:
        """Does nothing: another client may be about to refer to a picture that this one sees no use of."""

    def _read(self, name: str) -> bytes | None:
        first = self._store.retrieve([_piece_id(name, 0)])
        if not first:
            return None
        pieces = [first[0].payload["data"]]
        for number in range(1, int(first[0].payload["pieces"])):
            more = self._store.retrieve([_piece_id(name, number)])
            if not more:
                return None
            pieces.append(more[0].payload["data"])
        return b"".join(base64.b64decode(piece) for piece in pieces)


def _piece_id(name: str, number: int) -> str:
    return str(uuid.UUID(bytes=hashlib.blake2b(f"\0{name}\0{number}".encode(), digest_size=16).digest()))
