"""Reading all documents of a multi-vector collection, as it was at one instant."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np

from mmseek._stored import StoredBatch
from mmseek.errors import CorruptCollection, InputError
from mmseek.index import codec
from mmseek.index.assets import AssetStore
from mmseek.index.ledger import Snapshot
from mmseek.index.segments import Segments
from mmseek.index.stream import with_bytes
from mmseek.index.tokens.files import TokenFiles
from mmseek.index.tokens.ledger import TokenPlace, living_tokens, token_places, used_tokens

if TYPE_CHECKING:
    from mmseek._types import FloatArray


def token_batches(snapshot: Snapshot, segments: Segments, assets: AssetStore, batch: int) -> Iterator[StoredBatch]:
    """All documents of a snapshot with their vectors (tokens, dim), `batch` at a time; see `stored_batches`."""
    if batch < 1:
        raise InputError(f"a batch has at least 1 document, not {batch}")
    places = (
        TokenPlace(*place) for place in chain.from_iterable(each.tolist() for each in living_tokens(snapshot.sql))
    )
    with closing(TokenFiles(segments)) as files:
        files.hold(used_tokens(snapshot.sql))
        while some := list(islice(places, batch)):
            records = snapshot.records_of_rows([place.row for place in some])
            if len(records) != len(some):
                raise CorruptCollection("vectors of the collection belong to no document: run `mmseek verify`")
            found = [records[place.row] for place in some]
            yield StoredBatch(
                tuple(with_bytes(codec.decode(record, assets), assets) for record in found),
                tuple(files.read(*place[1:]).astype(np.float32) for place in some),
                tuple(record.digest for record in found),
            )


def tokens_of(snapshot: Snapshot, segments: Segments, ids: Iterable[str]) -> dict[str, FloatArray]:
    """The vectors (tokens, dim) of these ids; unknown ids are left out."""
    with closing(TokenFiles(segments)) as files:
        files.hold(used_tokens(snapshot.sql))
        places = token_places(snapshot.sql, ids)
        return {name: files.read(*place[1:]).astype(np.float32) for name, place in places.items()}
