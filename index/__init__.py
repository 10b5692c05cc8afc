"""Documents and their vectors, kept and found again."""

from __future__ import annotations

from mmseek.index.copying import CopyReport, copy_collection
from mmseek.index.opening import Mode, open_collection, verify_collection

__all__ = ["CopyReport", "Mode", "copy_collection", "open_collection", "verify_collection"]
