"""`index_on_ray`: a corpus into a collection by the workers of a Ray cluster."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmseek.config import settings
from mmseek.errors import EngineError, InputError, ItemError, StorageError
from mmseek.index.corpus.folder import RUN_MARK
from mmseek.index.durable import make_folder, storage_errors
from mmseek.media import MediaLimits
from mmseek.models.device import usable_cores
from mmseek.pipeline.jobs import failure
from mmseek.pipeline.partitioned.cluster import OBJECT_STORE_BYTES, cluster, quiet_ray
from mmseek.pipeline.partitioned.ledger import Checksum, Head, Ledger, mark
from mmseek.pipeline.partitioned.lines import from_line
from mmseek.pipeline.partitioned.plan import Partition, Plan, make_plan, read_partition
from mmseek.pipeline.partitioned.rows import Row, Status, read_rows
from mmseek.pipeline.partitioned.stages import EncodeActor, Stage, WriteActor, read_partitions, store_rows
from mmseek.pipeline.pruning import drop_outdated
from mmseek.pipeline.report import IndexingInterrupted, IndexingStopped, IndexReport, Progress

if TYPE_CHECKING:
    from mmseek.index.corpus import Entry, Skipped
    from mmseek.protocols import Collection, Encoder

__all__ = ["RayOptions", "index_on_ray", "takes_many_writers"]

_PROGRESS_SECONDS = 0.1
_MOST_PARTITIONS = 100_000
_BLOCK_BYTES = 4 * 1024**2


@dataclass(frozen=True, slots=True)
class RayOptions:
    """How the work is shared.

    Args:
        actors: workers that encode, each with one core; None: one for each GPU, or where there is none, each core.
        partitions: the corpus is cut into these, by id; another number voids the ledger.
        writers: workers that write, where the collection takes several (a Qdrant server).
        address: of a Ray cluster; None starts one on this machine for this run.
        object_store_bytes: memory for what is between two workers, of a cluster that is started here.

    Raises:
        InputError: a number is out of its range.
    """

    actors: int | None = None
    partitions: int = 64
    writers: int = 2
    address: str | None = None
    object_store_bytes: int = OBJECT_STORE_BYTES

    def __post_init__(self) -> None:
        if min(self.actors or 1, self.writers) < 1 or self.actors == 0:
            raise InputError("there is at least 1 worker of each kind")
        if not 1 <= self.partitions <= _MOST_PARTITIONS:
            raise InputError(f"there are from 1 to {_MOST_PARTITIONS:,} partitions, not {self.partitions}")


def index_on_ray(
    documents: Iterable[Entry],
    collection: Collection,
    place: Path | str,
    load: Callable[[], Encoder],
    folder: Path,
    *,
    options: RayOptions | None = None,
    batch_size: int = 256,
    limits: MediaLimits | None = None,
    total: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> IndexReport:
    """Encode documents in many processes and store them: the same ids, vectors and report as `index_corpus`.

    The documents are first cut into partitions by id. Workers read and hash them, others encode those that changed,
    and what comes back is stored here, or by several writers on a Qdrant server. A worker that dies is replaced and its
    work done again; documents are stored under their id, so none is there twice. A partition that is finished without
    failures is noted in a ledger, and later runs pass it over while neither it nor what the collection holds of it
    changes.

    Args:
        documents: as in `index_corpus`.
        collection: open for writing.
        place: the collection's, as every worker can open it.
        load: gives the collection's encoder; called in each encoding worker, so it must be something that pickles.
        folder: for the plan and the ledger, beside the collection; seen by all machines of the cluster.
        options: how the work is shared.
        batch_size: documents stored in one step.
        limits: of the pictures that are hashed, by default those of the settings.
        total: number of documents, if known; only shown.
        on_progress: called at most every 0.1 s, and at the end.

    Raises:
        EngineError: Ray cannot be started, or workers died again and again.
        IndexingStopped, IndexingInterrupted: as `index_corpus`.
    """
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, not {batch_size}")
    shared = takes_many_writers(place)
    info = collection.info()
    limits = limits or MediaLimits.from_settings(settings())
    options = options or RayOptions()
    place = place.absolute() if isinstance(place, Path) else place
    plan_folder = folder.absolute() / "plan"
    stage = Stage(place, plan_folder, info.encoder, limits, batch_size)
    head = Head(info.location, info.created_at, info.encoder.fingerprint, options.partitions)
    run = _Run(collection, load, stage, options, shared=shared, total=total, on_progress=on_progress)
    try:
        with storage_errors(folder):
            shutil.rmtree(plan_folder, ignore_errors=True)  # of a run that was killed
            make_folder(plan_folder)
        with Ledger(folder / RUN_MARK, head) as ledger:
            run.go(documents, ledger)
    except KeyboardInterrupt:
        raise IndexingInterrupted(run.report()) from None
    except StorageError as error:
        raise IndexingStopped(error, run.report()) from error
    finally:
        shutil.rmtree(plan_folder, ignore_errors=True)
    return run.report()


def takes_many_writers(place: Path | str) -> bool:
    """Whether several processes may write at a place.

    Raises:
        InputError: one process at a time may open it at all.
    """
    from mmseek.index.qdrant.location import is_qdrant, parse_location

    if not is_qdrant(place):
        return False
    found = parse_location(str(place))
    if found.kind != "server":
        raise InputError(
            f"{found} is open to one process at a time and the engine ray has several: give a folder or "
            "qdrant://HOST:PORT/NAME, or use the local engine"
        )
    return True


@dataclass(slots=True)
class _Open:
    """A partition on its way: which of its documents are through, and how they are stored."""

    partition: Partition
    seen: bytearray = field(default_factory=bytearray)
    left: int = 0
    checksum: Checksum = field(default_factory=Checksum)
    failed: bool = False


class _Run:
    """The state of one run: plan, let work, store, account for every document once."""

    def __init__(
        self,
        collection: Collection,
        load: Callable[[], Encoder],
        stage: Stage,
        options: RayOptions,
        *,
        shared: bool,
        total: int | None,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._collection = collection
        self._load = load
        self._stage = stage
        self._options = options
        self._shared = shared
        self._total = total
        self._on_progress = on_progress
        self._began = self._told = time.monotonic()
        self._indexed = self._unchanged = self._removed = 0
        self._failed: list[tuple[int, ItemError]] = []
        self._skipped: tuple[Skipped, ...] = ()
        self._open: dict[int, _Open] = {}
        self._waiting: list[Row] = []

    def go(self, documents: Iterable[Entry], ledger: Ledger) -> None:
        plan: Plan = make_plan(
            documents, self._stage.folder, self._options.partitions, is_held=self._is_held, on_entry=self._tell
        )
        self._failed += plan.failed
        self._skipped = plan.skipped
        self._open = {part.number: _Open(part, bytearray(part.items), part.items) for part in plan.partitions}
        self._pass_finished(ledger)
        if self._open:
            actors = self._options.actors or usable_cores()
            size = self._options.object_store_bytes
            with cluster(self._options.address, cpus=actors + 2, object_store_bytes=size) as ray:
                self._work(ray, ledger)
        self._removed = drop_outdated(self._collection, plan.ended, plan.ids.__contains__)
        self._tell(last=True)

    def _is_held(self, name: str, digest: str) -> bool:
        return self._collection.digests([name]).get(name) == digest

    def _pass_finished(self, ledger: Ledger) -> None:
        """Take out the partitions that an earlier run finished, if the collection still holds them so."""
        for number, found in list(self._open.items()):
            stored = ledger.stored(found.partition)
            if stored is not None and str(self._held(number)) == stored:
                self._unchanged += found.partition.items
                del self._open[number]

    def _held(self, number: int) -> Checksum:
        """Of what the collection holds of a partition. No picture is read."""
        checksum = Checksum()
        source = (document.id for _, _, document in read_partition(self._stage.folder, number))
        while ids := list(islice(source, self._stage.batch)):
            held = self._collection.digests(ids)
            for name in ids:
                checksum.add(mark(name, held.get(name, "")))
            self._tell()
        return checksum

    def report(self) -> IndexReport:
        return IndexReport(
            indexed=self._indexed,
            unchanged=self._unchanged,
            failed=tuple(error for _, error in sorted(self._failed, key=lambda failed: failed[0])),
            skipped=self._skipped,
            seconds=time.monotonic() - self._began,
            removed=self._removed,
        )

    def _work(self, ray: Any, ledger: Ledger) -> None:
        """Let all partitions through; again those of which a document is missing, as long as that brings anything."""
        left = None
        while self._open and left != (left := sum(found.left for found in self._open.values())):
            for rows in self._tables(ray):
                self._take(list(read_rows(rows)), ledger)
            self._store(ledger)
        if self._open:
            raise EngineError(f"{left:,} documents did not come back from the workers: run the same command again")

    def _tables(self, ray: Any) -> Iterable[Any]:
        """What comes out of the last stage."""
        with quiet_ray():
            from ray.data.exceptions import RayDataUserCodeException

            data = self._dataset(ray)
        try:
            yield from data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0)
        except (ray.exceptions.RayError, RayDataUserCodeException) as error:
            reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
            raise EngineError(
                f"the workers failed ({reason[0]}); what was stored is safe: run the same command again"
            ) from error

    def _dataset(self, ray: Any) -> Any:
        from ray.data import ActorPoolStrategy, DataContext, from_items

        context = DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        # The collection has its documents in the same order after every run, whichever worker was quicker.
        context.execution_options.preserve_order = not self._shared
        context.target_max_block_size = _BLOCK_BYTES
        pending = [{"partition": number} for number in self._open]
        actors, resources = self._actors(ray)
        data = from_items(pending, override_num_blocks=len(pending)).map_batches(
            read_partitions, batch_size=1, batch_format="pyarrow", num_cpus=0.5, fn_args=(self._stage,)
        )
        data = data.map_batches(
            EncodeActor,
            batch_size=None,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=min(actors, len(pending))),
            fn_constructor_args=(self._load, self._stage),
            **resources,
        )
        if self._shared:
            data = data.map_batches(
                WriteActor,
                batch_size=None,
                batch_format="pyarrow",
                compute=ActorPoolStrategy(size=min(self._options.writers, len(pending))),
                fn_constructor_args=(self._stage,),
                num_cpus=0.25,
            )
        return data

    def _actors(self, ray: Any) -> tuple[int, dict[str, float]]:
        gpus = int(ray.cluster_resources().get("GPU", 0))
        if self._options.actors is None and gpus:
            return gpus, {"num_gpus": 1}
        return self._options.actors or usable_cores(), {"num_cpus": 1}

    def _take(self, rows: Sequence[Row], ledger: Ledger) -> None:
        for row in rows:
            if row.status == Status.PROBLEM:
                raise EngineError(row.reason)
            if row.status == Status.ENCODED:
                if self._is_new(row):
                    self._waiting.append(row)
                if len(self._waiting) >= self._stage.batch:
                    self._store(ledger)
            else:
                self._account(row, ledger)

    def _store(self, ledger: Ledger) -> None:
        rows, self._waiting = self._waiting, []
        for row in store_rows(rows, self._collection):
            self._account(row, ledger)

    def _is_new(self, row: Row) -> bool:
        found = self._open.get(row.partition)
        return found is not None and not found.seen[row.position]

    def _account(self, row: Row, ledger: Ledger) -> None:
        """Count a document that is through. One that comes again, from a worker that died, counts once."""
        if not self._is_new(row):
            return
        found = self._open[row.partition]
        found.seen[row.position] = 1
        found.left -= 1
        if row.status == Status.FAILED:
            found.failed = True
            self._failed.append((row.order, failure(from_line(row.line), ItemError(row.reason))))
        else:
            found.checksum.add(row.mark)
            self._indexed += row.status == Status.STORED
            self._unchanged += row.status == Status.UNCHANGED
        if not found.left:
            del self._open[row.partition]
            if not found.failed:  # what failed deserves another try
                ledger.finish(found.partition, found.checksum)
        self._tell()

    def _tell(self, *, last: bool = False) -> None:
        now = time.monotonic()
        if self._on_progress is None or (not last and now - self._told < _PROGRESS_SECONDS):
            return
        self._told = now
        self._on_progress(
            Progress(
                done=self._indexed + self._unchanged + len(self._failed),
                total=self._total,
                indexed=self._indexed,
                unchanged=self._unchanged,
                failed=len(self._failed),
                seconds=now - self._began,
            )
        )
