"""Keeps a collection's derived index: loads it for searches, and builds, grows and replaces it for the writer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mmseek.errors import CorruptCollection, InputError, MmseekError
from mmseek.index.ann.files import CURRENT, AnnFolder, Build, Settings
from mmseek.index.ann.places import GONE, Places, check_spots, current_places, ends_of, take_spots
from mmseek.index.ann.plan import AUTO, EXACT, check_kind, kinds_to_try
from mmseek.index.ann.sources import MappedSource
from mmseek.index.connections import Connections
from mmseek.index.durable import make_folder, storage_errors
from mmseek.index.ledger import Snapshot, State
from mmseek.index.segments import Segments

if TYPE_CHECKING:
    from mmseek._types import FloatArray
    from mmseek.index.ann.layered import LayeredIndex
    from mmseek.index.ann.proposer import Proposer
    from mmseek.index.ann.tuning import Trial

_log = logging.getLogger(__name__)

_FOLD_ROWS = 10_000  # new rows, and
_FOLD_SHARE = 0.1  # their share of the build, from which on they are folded in
_MOST_DEAD = 0.25  # share of dead rows from which on the index is built anew
_MOST_GROWN = 2.0  # growth since training from which on it is trained anew
_MOST_MAPPED = 256 * 2**20  # bytes of full vectors that may come to count as this process's memory
_PIECE = 8192
_PATIENCE = 10.0  # seconds

Told = Callable[[str], None]


class Stopped(Exception):
    """The collection is being closed: a build in the background ends, and the one before stays."""


class AnnKeeper:
    """One collection's `ann/` folder and the work on it.

    Args:
        folder: the collection's `ann/`.
        connections: to its ledger.
        segments: its vectors.
        dim: their columns.
        check_writer: raises where this collection may not be written.
    """

    def __init__(
        self,
        folder: AnnFolder,
        connections: Connections,
        segments: Segments,
        dim: int,
        check_writer: Callable[[], None],
    ) -> None:
        self.folder = folder
        self._connections = connections
        self._segments = segments
        self._dim = dim
        self._check_writer = check_writer
        self._building = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def load(self, snapshot: Snapshot, state: State) -> tuple[LayeredIndex, int] | None:
        """The stored index as of a snapshot, and the last row number that it knows; None where there is none to use.

        Never raises for what is wrong in `ann/`, but warns: a search does without it.
        """
        try:
            build = self.folder.build()
            if build is None:
                return None
            if not self._belongs(build, state):
                raise CorruptCollection(f"{self.folder.path} is not of this collection as it is now")
            return self._loaded(build, snapshot, state), build.state.next_row - 1
        except (MmseekError, OSError, ValueError) as error:
            _log.warning("searching exactly, for the stored index cannot be used: %s", error)
        return None

    def _belongs(self, build: Build, state: State) -> bool:
        """Whether a build may be of this ledger's past."""
        known = build.dim == self._dim and not any(self.folder.damage(build, name) for name in build.files)
        return known and all(old <= new for old, new in zip(build.state, state, strict=True))

    def _loaded(self, build: Build, snapshot: Snapshot, state: State) -> LayeredIndex:
        from mmseek.index.ann import proposer
        from mmseek.index.ann.layered import Base, LayeredIndex

        places, source = self._places_of(build, snapshot, state)
        made = proposer.load(build.plan, self._dim, self.folder.path / build.index_file)
        if len(made) != build.rows:
            raise CorruptCollection(f"{self.folder.path} has an index of {len(made)} vectors where {build.rows} were")
        index = LayeredIndex(self._dim, Base(places.rows, made, source, build.plan, build.longest))
        index.remove(places.rows[places.segments == GONE])
        index.remove(snapshot.died(build.state.generation))
        return index

    def _places_of(self, build: Build, snapshot: Snapshot, state: State) -> tuple[Places, MappedSource]:
        """Where a build's vectors are.

        Raises:
            CorruptCollection: they are not the vectors that it was built from.
        """
        places, used = self.folder.places(build), build.segments
        if build.state.epoch != state.epoch:  # a compaction has moved them
            places = current_places(snapshot, places.rows)
            used = ends_of(places)
        # With full bytes speed is what counts, with codes it is memory, and so it is where a search is long anyway.
        sparing = build.plan.kind not in {"hnsw", "ivf-sq8"} or 4 * self._dim * build.rows > _MOST_MAPPED
        source = MappedSource(self._segments, self._dim, places, used, sparing=sparing)
        check_spots(build.spots, places, source)
        return places, source

    def tune(
        self,
        kind: str = AUTO,
        *,
        recall: float = 0.95,
        memory: int | None = None,
        queries: FloatArray | None = None,
        tell: Told = lambda _: None,
    ) -> Build | None:
        """Build the vector index that searches use from now on; None where the choice is an exact search.

        Searches, and upserts of this process, go on meanwhile; what comes later is searched exactly until it is folded
        in. A run that is stopped or killed leaves the index there was.

        Args:
            kind: one of `mmseek.index.ann.plan.KINDS`.
            recall: the recall@10 to reach, over 0 and up to 1.
            memory: bytes that it may take, for `auto`; None for half of the machine's.
            queries: sample query vectors (n, dim), kept for later; recall is measured with them.
            tell: told what is being done.

        Raises:
            InputError: there is no such kind, a number is out of range, or the queries are not of this collection.
            CollectionError: the collection is open for reading only, or closed.
            StorageError: the disk is full or failing; the index before stays in use.
        """
        settings = Settings(check_kind(kind), recall, memory)
        if not 0 < recall <= 1 or (memory is not None and memory < 1):
            raise InputError(f"recall is over 0 and up to 1, and memory at least one byte: not {recall} and {memory}")
        self._check_writer()
        with self._building, storage_errors(self.folder.path):
            if queries is not None:
                self.folder.write_queries(self._checked(queries))
            if kind == EXACT:
                self.folder.drop()
                return None
            made = self._build(settings, tell)
            # Last: a run that is killed leaves what was wanted before, and its build.
            self.folder.write_settings(settings)
            return made

    def _checked(self, queries: FloatArray) -> FloatArray:
        matrix = np.ascontiguousarray(queries, dtype=np.float32)
        if matrix.ndim != 2 or matrix.shape[1] != self._dim or not np.isfinite(matrix).all():
            raise InputError(f"sample queries are finite vectors of shape (n, {self._dim}), not {matrix.shape}")
        return matrix

    def keeps(self, kind: str, recall: float) -> bool:
        """Whether this is what was asked for last, so that folding is enough."""
        settings = self.folder.settings()
        return settings is not None and (settings.kind, settings.recall) == (kind, recall)

    def fold(self, tell: Told = lambda _: None) -> Build | None:
        """Bring the rows that came since into the stored index; builds it where it is missing, damaged or far behind.

        Does nothing where no index was asked for, or nothing has changed. Returns the build in use. Errors as in
        `tune`.
        """
        self._check_writer()
        with self._building, storage_errors(self.folder.path):
            settings = self.folder.settings()
            if settings is None or settings.kind == EXACT:
                return None
            build = self._sound_build()
            if build is None:
                return self._build(settings, tell)
            new, living = self._news(build)
            dead = 1 - (living - new) / max(1, build.rows)
            if not new and dead <= _MOST_DEAD:
                return build
            if dead > _MOST_DEAD or living > _MOST_GROWN * build.trained:
                return self._build(settings, tell)
            return self._grow(settings, build, tell)

    def start_folding(self) -> None:
        """Fold in the background if enough has come; searches go over to the new build by themselves."""
        if self._thread is not None and self._thread.is_alive():
            return
        settings = self.folder.settings()
        if settings is None or settings.kind == EXACT or not self._is_due(settings):
            return

        def work() -> None:
            # What goes wrong here is no one's search: the next upsert tries again, and `mmseek tune` says why.
            with suppress(MmseekError, OSError, Stopped):
                self.fold()

        self._thread = threading.Thread(target=work, name="mmseek-ann", daemon=True)
        self._thread.start()

    def settle(self, tell: Told = lambda _: None) -> None:
        """Wait for a fold in the background, and fold in the foreground if there is enough to fold; for a run's end."""
        if self._thread is not None:
            self._thread.join()
        settings = self.folder.settings()
        if settings is not None and settings.kind != EXACT and self._is_due(settings):
            self.fold(tell)

    def stop(self) -> None:
        """End a fold in the background; what it had not finished is nothing.

        A step of FAISS cannot be interrupted. After a few seconds it is left to end by itself: its connections are
        closed, and what it might still write is an older state of the same index.
        """
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_PATIENCE)

    def clean_up(self) -> None:
        """Remove what a killed writer left."""
        with suppress(CorruptCollection, OSError):
            build = self.folder.build()
            self.folder.clean(set() if build is None else set(build.files))

    def moved(self) -> None:
        """After a compaction: write down where the vectors are now, so that opening need not ask for each."""
        with self._building, suppress(MmseekError, OSError):
            build = self._sound_build()
            if build is None:
                return
            rows = np.array(self.folder.places(build).rows)
            with self._connections.snapshot() as snapshot:
                state, places = snapshot.state(), current_places(snapshot, rows)
                caught_up = State(state.epoch, build.state.generation, build.state.next_row)
            self.folder.put(replace(build, state=caught_up, segments=ends_of(places)), places)

    def _is_due(self, settings: Settings) -> bool:
        try:
            build = self.folder.build()
        except CorruptCollection:
            return True
        if build is None:
            return settings.kind != AUTO or self._state().next_row > _FOLD_ROWS
        return self._state().next_row - build.state.next_row > max(_FOLD_ROWS, _FOLD_SHARE * build.rows)

    def _state(self) -> State:
        with self._connections.snapshot() as snapshot:
            return snapshot.state()

    def _news(self, build: Build) -> tuple[int, int]:
        """How many living rows are not in a build, and how many are living at all."""
        with self._connections.snapshot() as snapshot:
            return snapshot.count_vectors(build.state.next_row - 1), snapshot.count_vectors()

    def _sound_build(self) -> Build | None:
        """The build in use, if it is whole and of this collection."""
        try:
            build = self.folder.build()
            with self._connections.snapshot() as snapshot:
                state = snapshot.state()
                if build is None or not self._belongs(build, state):
                    return None
                self._places_of(build, snapshot, state)
        except CorruptCollection:
            return None
        return build

    def _build(self, settings: Settings, tell: Told) -> Build | None:
        from mmseek.index.ann.tuning import tune

        with self._connections.snapshot() as snapshot:
            living = snapshot.count_vectors()
        if not living or kinds_to_try(settings.kind, settings.memory, self._dim, living) == [EXACT]:
            self._forget_build()
            return None
        state, places, source = self._living()
        trial, measured_on = self._trial(places, source)
        tuned = tune(settings, trial, tell, self._check)
        build = Build(
            number=self._next_number(),
            plan=tuned.plan,
            dim=self._dim,
            rows=len(places.rows),
            trained=len(places.rows),
            state=state,
            segments=ends_of(places),
            recall=tuned.recall,
            milliseconds=tuned.milliseconds,
            longest=trial.longest,
            measured_on=measured_on,
            spots=take_spots(places, source),
        )
        return self._put(build, tuned.proposer, places)

    def _grow(self, settings: Settings, build: Build, tell: Told) -> Build | None:
        """A stored index with the new rows added, as it is searched now or with more care."""
        from mmseek.index.ann import proposer
        from mmseek.index.ann.tuning import Tuned, cheapest, measure
        from mmseek.index.ann.whole_bytes import are_of_one_length

        made = proposer.load(build.plan, self._dim, self.folder.path / build.index_file, mapped=False)
        old = np.array(self.folder.places(build).rows)
        with self._connections.snapshot() as snapshot:
            state = snapshot.state()
            places = current_places(snapshot, old, build.state.next_row - 1)
            source = MappedSource(self._segments, self._dim, places)
        tell(f"adding {len(places.rows) - len(old):,} vectors to {build.plan.kind}")
        for low in range(len(old), len(places.rows), _PIECE):
            self._check()
            made.add(source.take(np.arange(low, min(low + _PIECE, len(places.rows)))))
        trial, measured_on = self._trial(places, source)
        if build.plan.scale and not are_of_one_length(trial.shortest, trial.longest):
            return self._build(settings, tell)  # what came is not to be compared by distance
        measured = measure(trial, made, build.plan)
        tuned = Tuned(build.plan, made, *(measured or (None, 0.0)))
        if measured is not None and measured[0] < settings.recall:
            tuned = cheapest(trial, made, build.plan, settings.recall, self._check)
        grown = replace(
            build,
            number=self._next_number(),
            plan=tuned.plan,
            rows=len(places.rows),
            state=state,
            segments=ends_of(places),
            recall=tuned.recall,
            milliseconds=tuned.milliseconds,
            longest=trial.longest,
            measured_on=measured_on,
            spots=take_spots(places, source),
        )
        return self._put(grown, made, places)

    def _put(self, build: Build, made: Proposer, places: Places) -> Build:
        self._check()
        make_folder(self.folder.path)
        made.save(self.folder.path / build.index_file)
        self._check()
        return self.folder.put(build, places)

    def _living(self) -> tuple[State, Places, MappedSource]:
        """All living vectors. Their files are opened while the snapshot holds; after that they may be unlinked."""
        with self._connections.snapshot() as snapshot:
            state = snapshot.state()
            places = current_places(snapshot, np.empty(0, dtype=np.int64), 0)
            return state, places, MappedSource(self._segments, self._dim, places)

    def _trial(self, places: Places, source: MappedSource) -> tuple[Trial, str]:
        from mmseek.index.ann.tuning import MOST_QUERIES, make_trial

        queries, measured_on = self.folder.queries(self._dim), "queries"
        living = np.flatnonzero(places.segments != GONE)
        if not len(queries):
            some = np.random.default_rng(1).permutation(len(living))[:MOST_QUERIES]
            queries, measured_on = source.take(living[np.sort(some)]), "documents"
        return make_trial(self._dim, places.rows, source, queries, living), measured_on

    def _forget_build(self) -> None:
        (self.folder.path / CURRENT).unlink(missing_ok=True)
        self.folder.clean(set())

    def _next_number(self) -> int:
        names = (path.stem.partition("-")[0] for path in self.folder.path.glob("*.*"))
        return max((int(name) for name in names if name.isdecimal()), default=0) + 1

    def _check(self) -> None:
        if self._stop.is_set():
            raise Stopped
