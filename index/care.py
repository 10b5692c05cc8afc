"""What is done to a collection as a whole: copied, made from a copy, repaired."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from mmseek.index import manifest
from mmseek.index.local import local_collection
from mmseek.index.opening import folder_of
from mmseek.index.repair import RepairReport, repair_folder
from mmseek.index.snapshot import restore_snapshot, snapshot_collection
from mmseek.protocols import VerifyReport

__all__ = ["RepairReport", "repair_collection", "restore_collection", "take_snapshot"]


def take_snapshot(location: str | Path, target: str | Path) -> VerifyReport:
    """Copy one state of a collection, while others write, to a new folder or `.tar`; see `snapshot_collection`."""
    folder = folder_of(location)
    with closing(local_collection(folder, manifest.read_manifest(folder))) as collection:
        return snapshot_collection(collection, Path(target).absolute())


def restore_collection(source: str | Path, target: str | Path) -> VerifyReport:
    """Make a collection of a snapshot; see `restore_snapshot`."""
    return restore_snapshot(Path(source).absolute(), Path(target).absolute())


def repair_collection(location: str | Path) -> RepairReport:
    """Repair a collection; see `repair_folder`."""
    return repair_folder(folder_of(location))
