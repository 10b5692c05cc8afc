"""Which class a collection in a folder is of."""

from __future__ import annotations

from pathlib import Path

from mmseek.index.collection import LocalCollection
from mmseek.index.lock import WriterLock
from mmseek.index.manifest import Manifest
from mmseek.index.tokens.collection import TokenCollection


def local_collection(folder: Path, manifest: Manifest, lock: WriterLock | None = None) -> LocalCollection:
    """The collection of a folder: with one vector a document, or with one for each token.

    Args:
        folder: of the collection.
        manifest: as read from it.
        lock: the right to write, or None for reading only.

    Raises:
        CorruptCollection, StorageError: it cannot be opened.
    """
    kind = TokenCollection if manifest.encoder.multi_vector else LocalCollection
    return kind(folder, manifest, lock)
