"""What `mmseek info` says of a collection's vector index."""

from __future__ import annotations

from mmseek.errors import CorruptCollection
from mmseek.index.ann.files import AnnFolder
from mmseek.index.ann.plan import EXACT
from mmseek.index.ledger import Snapshot
from mmseek.protocols import IndexInfo


def describe(folder: AnnFolder, snapshot: Snapshot, dim: int) -> IndexInfo:
    """The kind in use, what it was measured to find, and what it costs; reads no vectors."""
    try:
        build = folder.build()
    except CorruptCollection:
        build = None
    settings = folder.settings()
    wanted = EXACT if settings is None else settings.kind
    if build is None:
        return IndexInfo(EXACT, wanted, "", 1.0, "", 4.0 * dim, snapshot.count_vectors(), 0)
    size = sum(size for size, _ in build.files.values())
    waiting = snapshot.count_vectors(build.state.next_row - 1)
    return IndexInfo(
        kind=build.plan.kind,
        wanted=wanted,
        settings=str(build.plan),
        recall=build.recall,
        measured_on=build.measured_on,
        bytes_per_vector=size / max(1, build.rows),
        rows=build.rows,
        waiting=waiting,
    )
