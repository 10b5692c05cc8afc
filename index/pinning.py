"""One state of a collection whose files stay, whatever a compaction does meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from mmseek.errors import CorruptCollection
from mmseek.index.connections import Connections
from mmseek.index.ledger import Snapshot, reading
from mmseek.index.segments import Segments

FilesOf = Callable[[Snapshot], list[tuple[Segments, dict[int, int]]]]
_ATTEMPTS = 3


@contextmanager
def pinned_state(connections: Connections, files: FilesOf) -> Iterator[tuple[Snapshot, list[Segments]]]:
    """A state of the ledger with each kind of vector file that it names held open; for one thread.

    Args:
        connections: to the ledger.
        files: the kinds of files of a state, and the rows of each file that are in use.

    Raises:
        CorruptCollection: a file is missing or too short.
    """
    with connections.lend() as connection:
        for attempt in range(_ATTEMPTS):
            with reading(connection) as snapshot, ExitStack() as held:
                try:
                    kinds = [held.enter_context(kind.pinned(used)) for kind, used in files(snapshot)]
                except CorruptCollection:
                    if attempt == _ATTEMPTS - 1:
                        raise
                    continue  # a compaction came between the two: the next state has other files
                yield snapshot, kinds
                return
