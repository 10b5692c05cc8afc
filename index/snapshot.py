"""A consistent copy of a collection while a writer is writing, and a collection from such a copy.

A snapshot is a whole collection: SQLite copies the ledger as one read transaction sees it, the vector files are copied
up to where that ledger counts them, and the manifest is written last. It is checked before it appears under its name.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tarfile
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path, PurePosixPath
from typing import IO

from mmseek.errors import CorruptCollection, InputError, NotACollection
from mmseek.index import assets, codec, connections, drafts, head, lock, manifest, segments
from mmseek.index.collection import LocalCollection
from mmseek.index.durable import make_folder, storage_errors, sync, sync_folder
from mmseek.index.ledger import Snapshot
from mmseek.index.local import local_collection
from mmseek.index.rawfile import hash_file
from mmseek.index.segments import Segments
from mmseek.protocols import VerifyReport

_ATTEMPTS = 3
_PIECE = 1 << 20
_FILES = {manifest.NAME, head.NAME, connections.NAME}


def snapshot_collection(collection: LocalCollection, target: Path) -> VerifyReport:
    """Copy one state of a collection to `target`, a new folder or a file whose name ends with `.tar`.

    Args:
        collection: open in any mode; others may write to it meanwhile.
        target: appears whole, when the copy has been read back and is sound.

    Returns:
        what the check of the copy found: how much is in it.

    Raises:
        InputError: there is something at `target`.
        CorruptCollection: the collection is damaged, so no copy was made.
        StorageError: the disk is full, read-only or failing.
    """
    if target.suffix == ".tar":
        return _to_tar(collection, target)
    for attempt in range(_ATTEMPTS):
        try:
            with drafts.draft_folder(target) as draft:
                return _copy(collection, draft)
        except CorruptCollection:
            # A compaction may have taken a picture away between the ledger's copy and its own.
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("the last attempt returns or raises")


def restore_snapshot(source: Path, target: Path) -> VerifyReport:
    """Make a collection of a snapshot, a folder or a `.tar`.

    Raises:
        NotACollection: `source` is no snapshot, or has other files in it.
        CorruptCollection: it is damaged; nothing is left at `target`.
        InputError: there is something at `target`.
    """
    if source.is_dir():
        with closing(_opened(source)) as collection:
            return snapshot_collection(collection, target)
    with drafts.draft_folder(target) as draft:
        _unpack(source, draft)
        return _checked(draft)


def _copy(collection: LocalCollection, draft: Path) -> VerifyReport:
    with collection.pinned_files() as (snapshot, kinds):
        generation = snapshot.state().generation
        _copy_ledger(snapshot, draft / connections.NAME)
        for pinned, (_, used) in zip(kinds, collection.files(snapshot), strict=True):
            _copy_segments(pinned, used, draft)
        _copy_pictures(snapshot, collection.folder, draft)
    sealed = head.Head(generation, hash_file(draft / connections.NAME))
    head.write_head(draft, sealed, durable=True)
    manifest.write_manifest(draft, collection.manifest)
    return _checked(draft)


def _checked(folder: Path) -> VerifyReport:
    with closing(_opened(folder)) as collection:
        report = collection.verify()
    if not report.ok:
        raise CorruptCollection(f"the copy is not sound, so it was not kept: {report.problems[0]}")
    for ending in ("-wal", "-shm"):  # what reading it left behind
        (folder / (connections.NAME + ending)).unlink(missing_ok=True)
    return report


def _opened(folder: Path) -> LocalCollection:
    return local_collection(folder, manifest.read_manifest(folder))


def _copy_ledger(snapshot: Snapshot, target: Path) -> None:
    with connections.sqlite_errors(target), closing(sqlite3.connect(target, isolation_level=None)) as copy:
        # The source is inside its read transaction, which the copy joins: it sees what the snapshot sees.
        snapshot.sql.backup(copy)
        copy.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    _sync_file(target)


def _copy_segments(pinned: Segments, used: Mapping[int, int], draft: Path) -> None:
    folder = draft / pinned.layout.folder
    make_folder(folder)
    for segment, rows in used.items():
        path = folder / pinned.path(segment).name
        with path.open("wb") as file:
            for piece in pinned.raw(segment, rows):
                file.write(piece)
            file.flush()
            sync(file.fileno())
    sync_folder(folder)


def _copy_pictures(snapshot: Snapshot, folder: Path, draft: Path) -> None:
    make_folder(draft / assets.FOLDER)
    store = assets.AssetStore(folder)
    names = {name for record in snapshot.all_records() for name in codec.asset_names(record.item)}
    target = assets.AssetStore(draft)
    for name in sorted(names):
        try:
            data = store.path(name).read_bytes()
        except FileNotFoundError:
            raise CorruptCollection(f"{store.path(name)} is missing: run `mmseek verify --repair`") from None
        target.put([data])


def _to_tar(collection: LocalCollection, target: Path) -> VerifyReport:
    drafts.check_absent(target, "the copy")
    if not target.parent.is_dir():
        raise InputError(f"{target} cannot be written: there is no folder {target.parent}; make it first")
    folder, packed = target.with_name(target.name + ".folder"), target.with_name(target.name + drafts.ENDING)
    shutil.rmtree(folder, ignore_errors=True)  # what a killed run left
    try:
        report = snapshot_collection(collection, folder)
        with storage_errors(target):
            with tarfile.open(packed, "w", format=tarfile.PAX_FORMAT) as archive:
                for path in sorted(folder.rglob("*")):
                    if path.is_file() and path.name != lock.NAME:
                        archive.add(path, path.relative_to(folder).as_posix(), recursive=False)
            _sync_file(packed)
            packed.replace(target)
            sync_folder(target.parent)
    finally:
        packed.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
    return report


def _unpack(source: Path, draft: Path) -> None:
    """The files of an archive, if all of them are what a snapshot has; no name leads anywhere else."""
    try:
        with tarfile.open(source, "r:") as archive:
            for member in archive:
                if not member.isfile() or not _is_ours(member.name):
                    raise NotACollection(
                        f"{source} holds {member.name!r}, which no snapshot has: give what `mmseek snapshot` wrote"
                    )
                content = archive.extractfile(member)
                if content is not None:
                    _write(draft / PurePosixPath(member.name), content)
    except FileNotFoundError:
        raise NotACollection(f"{source} does not exist: give what `mmseek snapshot` wrote") from None
    except tarfile.TarError as error:
        raise NotACollection(f"{source} is no snapshot ({error}): give what `mmseek snapshot` wrote") from error
    make_folder(draft / segments.FOLDER)
    make_folder(draft / assets.FOLDER)


def _is_ours(name: str) -> bool:
    return name in _FILES or segments.is_segment_name(name) or assets.is_asset_name(name)


def _write(path: Path, content: IO[bytes]) -> None:
    make_folder(path.parent)
    with path.open("xb") as file:
        shutil.copyfileobj(content, file, _PIECE)
        file.flush()
        sync(file.fileno())


def _sync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDWR)
    try:
        sync(fd)
    finally:
        os.close(fd)
