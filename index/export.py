"""All that an embedded collection holds, in batches: what copies and exports are made from."""

from __future__ import annotations

from collections.abc import Iterator

from mmseek.errors import CorruptCollection
from mmseek.index import codec
from mmseek.index.assets import AssetStore
from mmseek.index.ledger import Snapshot
from mmseek.index.segments import Segments
from mmseek.index.view import read_vectors
from mmseek.protocols import StoredBatch


def export_snapshot(snapshot: Snapshot, segments: Segments, assets: AssetStore, batch: int) -> Iterator[StoredBatch]:
    """Batches of at most `batch` documents in the order of storing, from one state of the collection.

    Raises:
        CorruptCollection: a vector has no document, or its file is damaged.
    """
    for rows, vectors in read_vectors(snapshot, segments):
        for low in range(0, len(rows), batch):
            some = rows[low : low + batch].tolist()
            found = snapshot.records_of_rows(some)
            if len(found) < len(some):
                raise CorruptCollection(f"{segments.folder}: a vector has no document: run `mmseek verify`")
            yield StoredBatch(
                tuple(codec.decode(found[row], assets) for row in some),
                vectors[low : low + batch],
                tuple(found[row].digest for row in some),
            )
