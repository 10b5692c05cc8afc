"""An indexing run as a person sees it: a meter, and a Ctrl-C that says what is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mmseek.cli.failures import Stopped
from mmseek.cli.options import beside_place
from mmseek.cli.progress import Meter

if TYPE_CHECKING:
    from mmseek.index.corpus import Entry
    from mmseek.pipeline import IndexReport
    from mmseek.pipeline.encoders import AnyEncoder
    from mmseek.pipeline.partitioned import RayOptions
    from mmseek.protocols import Collection

__all__ = ["Workers", "ray_workers", "run_indexing"]


@dataclass(frozen=True, slots=True)
class Workers:
    """Who does the work if not this process.

    Args:
        place: the collection's, as each of them opens it.
        device: of the encoder in each of them.
        folder: for the plan and the ledger.
        options: how the work is shared.
    """

    place: Path | str
    device: str | None
    folder: Path
    options: RayOptions


def ray_workers(
    place: Path | str, device: str | None, *, partitions: int, actors: int | None, writers: int, address: str | None
) -> Workers:
    """Those of Ray.

    Raises:
        MissingExtra: mmseek[ray] is not installed.
        InputError: the collection is open to one process at a time.
    """
    from mmseek.pipeline.partitioned import RayOptions, takes_many_writers

    takes_many_writers(place)
    options = RayOptions(actors=actors, partitions=partitions, writers=writers, address=address)
    return Workers(place, device, beside_place(place, ".ray"), options)


def run_indexing(
    entries: Iterable[Entry],
    encoder: AnyEncoder,
    collection: Collection,
    *,
    total: int | None = None,
    batch_size: int = 256,
    prune: bool = False,
    workers: Workers | None = None,
) -> IndexReport:
    """Index with progress on stderr; arguments and errors as in `mmseek.pipeline.index_corpus`.

    Raises:
        Stopped: Ctrl-C.
    """
    from mmseek.pipeline import IndexingInterrupted, index_corpus

    go: Callable[..., IndexReport] = partial(index_corpus, entries, encoder, collection, prune=prune)
    if workers is not None:
        from mmseek.embed import load_encoder
        from mmseek.pipeline.encoders import check_one_vector
        from mmseek.pipeline.partitioned import index_on_ray

        check_one_vector(encoder)
        load = partial(load_encoder, encoder.identity.spec, device=workers.device)
        go = partial(index_on_ray, entries, collection, workers.place, load, workers.folder, options=workers.options)
    try:
        with Meter("indexing", total) as meter:
            return go(batch_size=batch_size, total=total, on_progress=lambda now: meter.update(now.done, now.failed))
    except IndexingInterrupted as stop:
        raise Stopped(
            f"stopped; documents stored by this run: {stop.report.indexed:,}; run the same command again to go on"
        ) from None
