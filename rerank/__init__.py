"""Scoring (query, document) pairs: rerankers, and what is made of their scores."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mmseek.models.spec import parse_spec
from mmseek.rerank.registry import FAMILIES, Family, load_reranker

if TYPE_CHECKING:
    from mmseek.rerank.selection import fuse_rrf, fuse_weighted, select

__all__ = ["FAMILIES", "Family", "fuse_rrf", "fuse_weighted", "load_reranker", "parse_spec", "select"]

_LAZY = ("fuse_rrf", "fuse_weighted", "select")


def __getattr__(name: str) -> Any:
    # The table of families needs no numpy, and selection does.
    if name in _LAZY:
        return getattr(import_module("mmseek.rerank.selection"), name)
    raise AttributeError(f"module 'mmseek.rerank' has no attribute {name!r}")
