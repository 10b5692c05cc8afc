"""`mmseek verify --repair`: what is derived is built anew, what is damaged is left out, and nothing is thrown away.

Where documents or vectors are damaged, a new collection is made of those that are good, checked, and put in the place
of the old one, which is kept beside it as it was, with lists of what is not in the new one.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmseek.errors import CollectionError, CorruptCollection, NotACollection
from mmseek.index import codec, lock
from mmseek.index.assets import AssetStore
from mmseek.index.collection import LocalCollection
from mmseek.index.connections import NAME as LEDGER_NAME
from mmseek.index.drafts import draft_folder
from mmseek.index.durable import storage_errors, sync_folder, write_file
from mmseek.index.head import read_head
from mmseek.index.local import local_collection
from mmseek.index.manifest import NAME as MANIFEST_NAME
from mmseek.index.manifest import Manifest, parse_manifest, read_manifest
from mmseek.index.opening import make_empty, verify_folder
from mmseek.index.salvage import Place, Salvage, copied_ledger, salvage
from mmseek.index.segments import ROWS, SEGMENT_BYTES, TOKENS, Segments
from mmseek.index.stream import with_bytes
from mmseek.index.verify import has_content_problems
from mmseek.items import item_to_json
from mmseek.protocols import VerifyReport

if TYPE_CHECKING:
    from mmseek._types import FloatArray
    from mmseek.index.codec import Record

DROPPED, LOST = "dropped.jsonl", "lost.jsonl"
_BATCH = 256


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What a repair found and did.

    Args:
        problems: what was wrong.
        done: what was done about it, one sentence each.
        dropped: ids of documents that are not in the repaired collection.
        kept: the folder of the damaged collection, where it was replaced; with `dropped.jsonl`, items that can be
            indexed again as they are, and `lost.jsonl`, ids of which the content is damaged too.
        after: the check of the collection as it is now.
    """

    problems: tuple[str, ...]
    done: tuple[str, ...]
    dropped: tuple[str, ...]
    kept: Path | None
    after: VerifyReport

    @property
    def lossy(self) -> bool:
        """Whether something that was in the collection is not in the repaired one."""
        return self.kept is not None


def repair_folder(folder: Path) -> RepairReport:
    """Repair a collection; a sound one is left as it is.

    Raises:
        NotACollection: there is none.
        CollectionLocked: a writer has it.
        CorruptCollection: it cannot be repaired; says why, and nothing was changed.
        StorageError: the disk is full, read-only or failing.
    """
    _finish_swap(folder)
    before = _report(folder)
    if before.ok:
        return RepairReport((), (), (), None, before)
    with storage_errors(folder):
        right = lock.WriterLock(folder)
    held: list[lock.WriterLock] = [right]
    try:
        done = _rebuild_derived(folder, held)
        if done is not None:
            return RepairReport(before.problems, done, (), None, _report(folder))
        return _replace(folder, before)
    finally:
        for each in held:
            each.release()


def _report(folder: Path) -> VerifyReport:
    if not folder.is_dir():
        raise NotACollection(f"{folder} does not exist: give the folder of a collection")
    try:
        return verify_folder(folder)
    except NotACollection as error:
        # A manifest that was lost is a problem like others, as long as there is a ledger that remembers it.
        if not (folder / LEDGER_NAME).is_file():
            raise
        return VerifyReport(0, 0, (str(error),))


def _rebuild_derived(folder: Path, held: list[lock.WriterLock]) -> tuple[str, ...] | None:
    """Build anew what is derived, if no more than that is wrong; None if there is more."""
    try:
        with closing(local_collection(folder, read_manifest(folder))) as reader:
            if has_content_problems(reader.parts) or _changes_are_missing(folder, reader):
                return None
    except CollectionError:
        return None
    # The collection gives the lock back when it is closed.
    with closing(local_collection(folder, read_manifest(folder), held.pop())) as writer:
        writer.rebuild_words()
    return ("the index of words and head.json were built anew; no document was touched",)


def _changes_are_missing(folder: Path, reader: LocalCollection) -> bool:
    try:
        acknowledged = read_head(folder).generation
    except CorruptCollection:
        return False
    with reader.pinned() as (snapshot, _):
        return acknowledged > snapshot.state().generation


def _missing_changes(folder: Path, ledger: Path) -> int:
    """How many acknowledged changes the ledger does not have; 0 where it cannot be told."""
    with suppress(CollectionError, sqlite3.Error, TypeError), closing(sqlite3.connect(ledger)) as sql:
        (generation,) = sql.execute("SELECT value FROM meta WHERE key = 'generation'").fetchone()
        return int(read_head(folder).generation - generation)
    return 0


def _replace(folder: Path, before: VerifyReport) -> RepairReport:
    kept = folder.with_name(f"{folder.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}")
    repaired = _repaired(folder)
    shutil.rmtree(repaired, ignore_errors=True)
    with draft_folder(repaired) as draft:
        scratch = draft / "scratch"
        scratch.mkdir()
        ledger = copied_ledger(folder, scratch)
        manifest = _manifest(folder, ledger)
        layout = TOKENS if manifest.encoder.multi_vector else ROWS
        segments, assets = Segments(folder, manifest.encoder.dim, SEGMENT_BYTES, layout), AssetStore(folder)
        try:
            found = salvage(ledger, segments, assets)
        except sqlite3.Error as error:
            raise CorruptCollection(
                f"{folder}: its ledger cannot be read ({error}): restore a snapshot, or index again into a new folder"
            ) from error
        missing = _missing_changes(folder, ledger)
        shutil.rmtree(scratch)
        _build(draft, manifest, found, segments, assets)
    _write_lists(folder, kept, found)
    folder.rename(kept)
    repaired.rename(folder)
    sync_folder(folder.parent)
    dropped = tuple(record.id for record in found.dropped) + tuple(found.lost)
    done = [*_sentences(found, kept)]
    if missing > 0:
        done.append(f"{missing} acknowledged changes are lost with the ledger's log: index again what was written last")
    return RepairReport(before.problems, tuple(done), dropped, kept, _report(folder))


def _sentences(found: Salvage, kept: Path) -> Iterator[str]:
    yield f"the collection was built anew from {len(found.good)} good documents; as it was, it is kept in {kept}"
    if found.dropped:
        again = kept / DROPPED
        yield f"{len(found.dropped)} documents have no sound vector or picture: index them again with {again}"
    if found.lost:
        yield f"{len(found.lost)} documents are damaged themselves: their ids are in {kept / LOST}, index their sources"
    if found.unreadable:
        yield f"{found.unreadable} documents cannot be read at all, not even their ids: index all sources again"


def _manifest(folder: Path, ledger: Path) -> Manifest:
    """The manifest, or the copy of it that the ledger has."""
    try:
        return read_manifest(folder)
    except (CorruptCollection, NotACollection) as error:
        with suppress(sqlite3.Error), closing(sqlite3.connect(ledger)) as sql:
            for (text,) in sql.execute("SELECT value FROM meta WHERE key = 'manifest'"):
                return parse_manifest(str(text).encode(), folder)
        raise CorruptCollection(
            f"{folder / MANIFEST_NAME} is damaged, and without it nobody knows whose vectors these are: "
            "restore it from a snapshot, or index again into a new folder"
        ) from error


def _build(draft: Path, manifest: Manifest, found: Salvage, segments: Segments, assets: AssetStore) -> None:
    make_empty(draft, manifest)
    with closing(local_collection(draft, manifest, lock.BorrowedLock())) as writer:
        for start in range(0, len(found.good), _BATCH):
            chunk = found.good[start : start + _BATCH]
            documents = [with_bytes(codec.decode(record, assets), assets) for record, _ in chunk]
            vectors = _vectors([place for _, place in chunk], segments)
            writer.upsert(documents, vectors, [record.digest for record, _ in chunk])
    with closing(local_collection(draft, manifest)) as reader:
        report = reader.verify()
    if not report.ok:
        raise CorruptCollection(f"the repaired copy is not sound, so nothing was changed: {report.problems[0]}")


def _vectors(places: Sequence[Place], segments: Segments) -> FloatArray | list[FloatArray]:
    """One vector a place, or an array (tokens, dim)."""
    each = [
        np.concatenate(list(segments.read(place.segment, np.arange(place.position, place.position + place.size))))
        for place in places
    ]
    return each if segments.layout == TOKENS else np.concatenate(each)


def _write_lists(folder: Path, kept: Path, found: Salvage) -> None:
    """Into the folder that is about to become `kept`, where the pictures will then be."""
    pictures = AssetStore(kept.absolute())
    with storage_errors(folder):
        write_file(folder / DROPPED, _lines(item_of(record, pictures) for record in found.dropped))
        write_file(folder / LOST, _lines({"id": identifier} for identifier in found.lost))


def item_of(record: Record, pictures: AssetStore) -> dict[str, object]:
    """A dropped document as an item that `mmseek index` reads."""
    return dict(item_to_json(codec.decode(record, pictures)))


def _lines(rows: Iterator[dict[str, object]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _repaired(folder: Path) -> Path:
    return folder.with_name(folder.name + ".repaired")


def _finish_swap(folder: Path) -> None:
    """A repair that was killed between its last two steps is finished."""
    repaired = _repaired(folder)
    if not folder.exists() and repaired.is_dir():
        repaired.rename(folder)
        sync_folder(folder.parent)
