"""Writing the tokens of living documents once more, without the dead ones between them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from mmseek.errors import CorruptCollection
from mmseek.index.ledger import Snapshot
from mmseek.index.segments import Block, Segments
from mmseek.index.tokens.files import TokenFiles
from mmseek.index.tokens.ledger import TokenPlace, living_tokens, token_blocks, used_tokens

if TYPE_CHECKING:
    from mmseek.index.segments import HalfArray

_ROWS = 65_536  # of one block


def copy_living_tokens(snapshot: Snapshot, segments: Segments, first: int) -> tuple[list[Block], list[TokenPlace]]:
    """Write all living tokens into new segments from number `first` on: the new blocks, and where each document's are.

    Should it fail, what it wrote belongs to nothing and is for the next writer to remove.

    Raises:
        CorruptCollection: a block does not have its checksum.
        OSError: the disk is full or failing.
    """
    for block in token_blocks(snapshot.sql):
        if not segments.is_sound(block):
            raise CorruptCollection(f"{segments.path(block.segment)} is damaged: see `mmseek verify`")
    segment, start = first, 0
    blocks: list[Block] = []
    places: list[TokenPlace] = []
    with closing(TokenFiles(segments)) as files:
        files.hold(used_tokens(snapshot.sql))
        for group in _groups(snapshot):
            rows: HalfArray = np.concatenate([files.read(*place[1:]) for place in group])
            if segments.is_full(start, len(rows)):
                segment, start = segment + 1, 0
            blocks.append(segments.append(segment, start, rows))
            for place in group:
                places.append(place._replace(segment=segment, start=start))
                start += place.size
    return blocks, places


def _groups(snapshot: Snapshot) -> Iterator[list[TokenPlace]]:
    """Living documents that are copied together."""
    group: list[TokenPlace] = []
    held = 0
    for piece in living_tokens(snapshot.sql):
        for place in map(TokenPlace._make, piece.tolist()):
            if group and held + place.size > _ROWS:
                yield group
                group, held = [], 0
            group.append(place)
            held += place.size
    if group:
        yield group
