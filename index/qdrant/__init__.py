"""Collections in Qdrant: its engine in this process, a server, or a cluster. Needs `mmseek[qdrant]`."""

from __future__ import annotations

from mmseek.index.qdrant.location import is_qdrant
from mmseek.index.qdrant.opening import open_qdrant

__all__ = ["is_qdrant", "open_qdrant"]
