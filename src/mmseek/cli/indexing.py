"""An indexing run as a person sees it: a meter, and a Ctrl-C that says what is kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mmseek.cli.failures import Stopped
from mmseek.cli.progress import Meter

if TYPE_CHECKING:
    from mmseek.index.corpus import Entry
    from mmseek.pipeline import IndexReport
    from mmseek.protocols import Collection, Encoder

__all__ = ["run_indexing"]


def run_indexing(
    entries: Iterable[Entry],
    encoder: Encoder,
    collection: Collection,
    *,
    total: int | None = None,
    batch_size: int = 256,
    prune: bool = False,
) -> IndexReport:
    """Index with progress on stderr; arguments and errors as in `mmseek.pipeline.index_corpus`.

    Raises:
        Stopped: Ctrl-C.
    """
    from mmseek.pipeline import IndexingInterrupted, index_corpus

    try:
        with Meter("indexing", total) as meter:
            return index_corpus(
                entries,
                encoder,
                collection,
                batch_size=batch_size,
                total=total,
                prune=prune,
                on_progress=lambda now: meter.update(now.done, now.failed),
            )
    except IndexingInterrupted as stop:
        raise Stopped(
            f"stopped; documents stored by this run: {stop.report.indexed:,}; run the same command again to go on"
        ) from None
