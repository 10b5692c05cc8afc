"""Documents and their vectors, kept and found again."""

from __future__ import annotations

from mmseek.index.opening import Mode, open_collection, verify_collection

__all__ = ["Mode", "open_collection", "verify_collection"]
