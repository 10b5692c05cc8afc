"""Writing the living vectors once more, without the dead ones between them."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import numpy as np

from mmseek.errors import CorruptCollection
from mmseek.index import codec
from mmseek.index.assets import AssetStore
from mmseek.index.ledger import Snapshot, reading
from mmseek.index.segments import Block, Segments
from mmseek.index.view import read_vectors

if TYPE_CHECKING:
    from mmseek.protocols import RowArray


def copy_living(snapshot: Snapshot, segments: Segments, first: int) -> tuple[RowArray, list[Block]]:
    """Write all living vectors into new segments from number `first` on: their rows and the new blocks, in one order.

    Should it fail, what it wrote belongs to nothing and is for the next writer to remove.

    Raises:
        CorruptCollection: a block does not have its checksum.
        OSError: the disk is full or failing.
    """
    for block in snapshot.blocks():
        if not segments.is_sound(block):
            raise CorruptCollection(f"{segments.path(block.segment)} is damaged: see `mmseek verify`")
    segment, start = first, 0
    numbers: list[RowArray] = [np.empty(0, dtype=np.int64)]
    blocks: list[Block] = []
    for rows, vectors in read_vectors(snapshot, segments):
        if segments.is_full(start, len(vectors)):
            segment, start = segment + 1, 0
        blocks.append(segments.append(segment, start, vectors))
        numbers.append(rows)
        start += len(vectors)
    return np.concatenate(numbers), blocks


def drop_unused_pictures(connection: sqlite3.Connection, assets: AssetStore) -> None:
    """Remove the kept pictures that no document refers to."""
    with reading(connection) as snapshot:
        used = {name for record in snapshot.all_records() for name in codec.asset_names(record.item)}
    for name in assets.names():
        if name not in used:
            assets.remove(name)
