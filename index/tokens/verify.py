"""What `verify` compares in a multi-vector collection beside what it does in any."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mmseek.errors import CollectionError
from mmseek.index.ledger import Snapshot
from mmseek.index.segments import Block, Segments
from mmseek.index.tokens.ledger import TokenPlace, all_token_places, documents_without_tokens, token_blocks


def token_problems(ledger: Path, segments: Segments, snapshot: Snapshot) -> Iterator[str]:
    """What is wrong with tokens: a document without any, places that are no block's, a block without its checksum."""
    for identifier in documents_without_tokens(snapshot.sql):
        yield f"{ledger}: document {identifier!r} has no vectors of its tokens: index it again"
    blocks = token_blocks(snapshot.sql)
    if not in_blocks(all_token_places(snapshot.sql), blocks):
        yield f"{ledger}: the places of its tokens are not those of its blocks, once each"
    for block in blocks:
        try:
            if not segments.is_sound(block):
                yield (
                    f"{segments.path(block.segment)}: rows {block.start} to {block.start + block.rows - 1} "
                    "do not have their checksum: index their documents again"
                )
        except CollectionError as error:
            yield str(error)


def in_blocks(places: list[TokenPlace], blocks: list[Block]) -> bool:
    """Whether places in the order of the files fill the blocks, document after document, without a gap."""
    waiting = iter(places)
    for block in blocks:
        at, end = block.start, block.start + block.rows
        while at < end:
            place = next(waiting, None)
            if place is None or (place.segment, place.start) != (block.segment, at) or place.size < 1:
                return False
            at += place.size
        if at != end:
            return False
    return next(waiting, None) is None
