"""From a location to a collection: opened for reading or writing, or made."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Literal, TypeAlias

from mmseek._types import EncoderIdentity
from mmseek.errors import CollectionExists, CorruptCollection, EncoderMismatch, InputError, NotACollection, SpecError
from mmseek.index import assets, connections, ledger, lock, manifest, segments
from mmseek.index.aliases import resolve_alias
from mmseek.index.durable import make_folder, storage_errors, sync_folder
from mmseek.index.head import NAME as HEAD_NAME
from mmseek.index.head import Head, write_head
from mmseek.index.local import local_collection
from mmseek.index.qdrant import is_qdrant, open_qdrant
from mmseek.index.tokens.ledger import SCHEMA as TOKEN_SCHEMA
from mmseek.protocols import Collection, VerifyReport

Mode: TypeAlias = Literal["read", "write", "create"]

# What stands in the folder when making a collection was interrupted: nothing was stored, so it may be done again.
_BEGINNINGS = {
    lock.NAME,
    HEAD_NAME,
    manifest.NAME + ".tmp",
    *(connections.NAME + end for end in ("", "-wal", "-shm", "-journal")),
}
_OWN_FOLDERS = {segments.FOLDER, segments.FOLDER_OF_TOKENS, assets.FOLDER}
_IGNORED = {"lost+found"}  # stands in every fresh volume


def open_collection(location: str | Path, *, mode: Mode = "read", encoder: EncoderIdentity | None = None) -> Collection:
    """Open a collection, or make one.

    Args:
        location: the collection's folder, or a place in Qdrant: `qdrant-edge:DIR`, `qdrant://HOST:PORT/NAME`,
            `qdrant+https://HOST:PORT/NAME`, `qdrant-local::memory:NAME`; see docs/qdrant.md.
        mode: `read`: any number at a time, also beside a writer. `write`: the one writer; makes the collection when
            the folder is absent or empty. `create`: like `write`, but refuses a collection that is there.
        encoder: whose vectors are to be searched or stored; compared with those of the collection, and needed to
            make one. One that is `multi_vector` makes a multi-vector collection.

    Raises:
        NotACollection: there is none, or the folder holds something else (which is left as it is).
        CollectionExists: `create` found one.
        EncoderMismatch: it holds the vectors of another encoder; names both.
        CollectionLocked: another writer has it.
        FormatTooNew, CorruptCollection, StorageError: see there.
        SpecError: nothing answers to this kind of location.
        MissingExtra: it is in Qdrant, and mmseek[qdrant] is not installed.
    """
    if mode not in {"read", "write", "create"}:
        raise InputError(f"a collection is opened to read, write or create, not to {mode!r}")
    if is_qdrant(location):
        return open_qdrant(str(location), mode=mode, encoder=encoder)
    folder = folder_of(location)
    if mode == "read":
        found = manifest.read_manifest(folder)
        _check_encoder(folder, found, encoder)
        return local_collection(folder, found)
    if not _is_collection(folder):
        if encoder is None:
            raise NotACollection(
                f"{folder} is no mmseek collection, and to make one its encoder must be given: `mmseek index` does both"
            )
        _check_empty(folder)
    elif mode == "create":
        raise CollectionExists(f"{folder} is a collection already: choose another folder, or index into it")
    else:
        _check_encoder(folder, manifest.read_manifest(folder), encoder)
    return _open_writer(folder, mode, encoder)


def verify_collection(location: str | Path) -> VerifyReport:
    """Check a collection that may be too damaged to be opened.

    Raises:
        NotACollection, FormatTooNew, StorageError: there is nothing that could be checked.
    """
    if not is_qdrant(location):
        return verify_folder(folder_of(location))
    return _verified(lambda: open_qdrant(str(location), mode="read", encoder=None))


def verify_folder(folder: Path) -> VerifyReport:
    """Check the collection in a folder; errors as in `verify_collection`."""
    return _verified(lambda: local_collection(folder, manifest.read_manifest(folder)))


def _verified(opened: Callable[[], Collection]) -> VerifyReport:
    try:
        collection = opened()
    except CorruptCollection as error:
        return VerifyReport(0, 0, (str(error),))
    with closing(collection):
        return collection.verify()


def _open_writer(folder: Path, mode: Mode, encoder: EncoderIdentity | None) -> Collection:
    with storage_errors(folder):
        make_folder(folder)
        right = lock.WriterLock(folder)
    try:
        # Looked at again: another writer may have made it before we had the lock.
        if not _is_collection(folder) and encoder is not None:
            if encoder.dim < 1:
                raise InputError(f"an encoder's vectors have at least one dimension, not {encoder.dim}")
            make_empty(folder, manifest.Manifest(encoder, ledger.now()))
        elif mode == "create":
            raise CollectionExists(f"{folder} is a collection already: choose another folder, or index into it")
        found = manifest.read_manifest(folder)
        _check_encoder(folder, found, encoder)
        return local_collection(folder, found, right)
    except BaseException:
        right.release()
        raise


def make_empty(folder: Path, made: manifest.Manifest) -> None:
    """Make a folder a collection without documents. The manifest is written last: without one it holds nothing."""
    database = folder / connections.NAME
    with storage_errors(folder), connections.sqlite_errors(database):
        for leftover in folder.glob(connections.NAME + "*"):
            leftover.unlink()
        connection = sqlite3.connect(database, isolation_level=None)
        try:
            ledger.create_schema(connection, TOKEN_SCHEMA if made.encoder.multi_vector else "")
            connection.execute("INSERT INTO meta VALUES ('manifest', ?)", (made.to_bytes().decode(),))
        finally:
            connection.close()
        make_folder(folder / segments.FOLDER)
        if made.encoder.multi_vector:
            make_folder(folder / segments.FOLDER_OF_TOKENS)
        make_folder(folder / assets.FOLDER)
        sync_folder(folder)
        write_head(folder, Head(0), durable=True)
        manifest.write_manifest(folder, made)


def folder_of(location: str | Path) -> Path:
    """The folder that a location names, directly or by an alias.

    Raises:
        SpecError, InputError: it names none.
    """
    scheme = re.match(r"([a-z][a-z0-9+.-]*)://", str(location))
    if scheme:
        raise SpecError(
            f"no kind of collection answers to {scheme[1]}://: give the path of a folder, or qdrant://HOST:PORT/NAME"
        )
    if is_qdrant(location):
        raise SpecError(f"{location} is in Qdrant, and this works on a collection in a folder: see `mmseek copy`")
    if not str(location).strip():
        raise InputError("the location of the collection is empty: give the path of a folder")
    folder = resolve_alias(Path(location).absolute())
    if (folder / "qdrant-edge.json").exists():
        raise NotACollection(f"{location} is a collection of Qdrant's engine: write qdrant-edge:{location}")
    return folder


def _is_collection(folder: Path) -> bool:
    return (folder / manifest.NAME).exists()


def _check_empty(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise NotACollection(f"{folder} is a file, not a collection: give the folder of a collection")
    for path in folder.iterdir():
        if path.name in _BEGINNINGS | _IGNORED or (path.name in _OWN_FOLDERS and not any(path.rglob("*.*"))):
            continue
        raise NotACollection(
            f"{folder} holds other things ({path.name}) and is no mmseek collection: choose an empty or a new folder"
        )


def _check_encoder(folder: Path, found: manifest.Manifest, encoder: EncoderIdentity | None) -> None:
    stored = found.encoder
    if encoder is None or encoder.same_vectors(stored):
        return
    raise EncoderMismatch(wanted=str(encoder), stored=str(stored), place=str(folder))
