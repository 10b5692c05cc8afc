"""mmseek: universal multimodal embedding and retrieval.

Importing this package is cheap: no torch, no model. The names below are loaded at their first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mmseek import errors
from mmseek._types import Content, Document, Encoded, EncodeRequest, EncoderIdentity, Hit, Image, Query, Text, Weighted
from mmseek.errors import MmseekError

if TYPE_CHECKING:
    from mmseek.embed import load_encoder
    from mmseek.index import open_collection
    from mmseek.pipeline import Retriever
    from mmseek.pipeline.rerankers import load_reranker

__version__ = "0.1.0"

_LAZY = {
    "Retriever": "mmseek.pipeline",
    "load_encoder": "mmseek.embed",
    "load_reranker": "mmseek.pipeline.rerankers",
    "open_collection": "mmseek.index",
}

__all__ = [
    "Content",
    "Document",
    "EncodeRequest",
    "Encoded",
    "EncoderIdentity",
    "Hit",
    "Image",
    "MmseekError",
    "Query",
    "Retriever",
    "Text",
    "Weighted",
    "__version__",
    "errors",
    "load_encoder",
    "load_reranker",
    "open_collection",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'mmseek' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
