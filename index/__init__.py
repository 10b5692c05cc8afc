"""Documents and their vectors, kept and found again."""

from __future__ import annotations

from mmseek.index.aliases import is_alias, set_alias
from mmseek.index.care import RepairReport, repair_collection, restore_collection, take_snapshot
from mmseek.index.copying import CopyReport, copy_collection
from mmseek.index.opening import Mode, folder_of, open_collection, verify_collection

__all__ = [
    "CopyReport",
    "Mode",
    "RepairReport",
    "copy_collection",
    "folder_of",
    "is_alias",
    "open_collection",
    "repair_collection",
    "restore_collection",
    "set_alias",
    "take_snapshot",
    "verify_collection",
]
