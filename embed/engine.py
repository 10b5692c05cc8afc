"""The throughput engine that all families share: requests in, vectors out, in input order and bounded memory.

A family gives a `Recipe`; the engine does the rest. It reads windows of requests ahead, prepares them in threads
(decoding, tokenising) while the model runs, drops duplicates, sorts what is left by cost, cuts batches by cost and not
by count, and keeps every failure to the request that caused it.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar

import numpy as np

from mmseek._types import Encoded, EncodeRequest
from mmseek.embed.batching import Budget, cut_by_cost, shared_budget
from mmseek.errors import EncodeError, MmseekError
from mmseek.models.device import free_cached_memory, is_out_of_memory, use_one_core

if TYPE_CHECKING:
    from mmseek._types import FloatArray

__all__ = ["Engine", "EngineOptions", "Recipe", "Unit"]

T = TypeVar("T")


_FEW: Final = 8  # requests that share a window however large they are, so that a short stream has all cores


@dataclass(frozen=True, slots=True)
class Unit:
    """One run through the model: a text, a picture, or whatever the family encodes at once.

    Args:
        kind: what it is; units of different kinds never share a batch.
        payload: what `Recipe.forward` needs.
        cost: its share of a batch's budget: tokens or pixels.
        key: units of equal kind and key have equal payloads and are encoded once.
    """

    kind: str
    payload: Any
    cost: int
    key: Hashable


class Recipe(Protocol):
    """What a family tells the engine. Every method may be called from several threads at once."""

    @property
    def budgets(self) -> Mapping[str, Budget]:
        """How much of each kind fits into a batch."""
        ...

    def prepare(self, request: EncodeRequest) -> Sequence[Unit]:
        """The CPU's part. Runs in a thread, ahead of the model.

        Raises:
            MmseekError: this request cannot be encoded.
        """
        ...

    def forward(self, kind: str, payloads: Sequence[Any]) -> FloatArray | Sequence[FloatArray]:
        """Encode a batch of one kind: (n, d), one row a payload. Rows must not depend on their neighbours.

        A recipe of many vectors an item gives n arrays (tokens, d).
        """
        ...

    def combine(self, request: EncodeRequest, units: Sequence[Unit], vectors: Sequence[FloatArray]) -> FloatArray:
        """Join the units' vectors, each (d,), into the request's: (dim,). The engine normalises it.

        A recipe of many vectors an item joins (tokens, d) to (tokens, dim), and each row is normalised.
        """
        ...


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How far the engine reads ahead, and in how many threads.

    Args:
        window: requests that are sorted together; up to three windows are held at once.
        window_bytes: a window also ends when its texts and in-memory pictures reach this size; from eight requests on
            at an eighth of it, the first at a quarter of that. Such pictures are drawn, fetched or unpacked while they
            are read, which takes about as long as encoding them: so the model begins early, and both go on at once.
        workers: threads that prepare.
        lanes: threads that run the model at once. On a CPU, one a core: a batch for each core is faster than splitting
            every operation over the cores, which then wait for one another each time. On an accelerator, 1.
    """

    window: int = 128
    window_bytes: int = 64 * 1024**2
    workers: int = 2
    lanes: int = 1


_Prepared: TypeAlias = "Sequence[Unit] | MmseekError"
_Row: TypeAlias = "FloatArray | MmseekError"
_Rows: TypeAlias = dict[tuple[str, Hashable], _Row]


@dataclass(slots=True)
class _Window:
    """Requests that are sorted together, on their way from read to encoded."""

    requests: list[EncodeRequest] = field(default_factory=list)
    prepared: list[Future[_Prepared]] = field(default_factory=list)
    batches: list[tuple[list[Unit], Future[list[_Row]] | None]] = field(default_factory=list)
    first: bool = False
    last: bool = False
    input_error: Exception | None = None


class Engine:
    """Runs a recipe over streams of requests. Thread-safe as far as the recipe is."""

    def __init__(self, recipe: Recipe, options: EngineOptions | None = None) -> None:
        self._recipe = recipe
        self._options = options or EngineOptions()
        self._budgets = dict(recipe.budgets)

    def stream(self, requests: Iterable[EncodeRequest]) -> Iterator[Encoded]:
        """One outcome a request, in input order. An error of `requests` itself is raised after what came before it.

        While one window's vectors are handed out, the next is with the model and the one after it is being prepared, so
        neither the model nor the preparing threads wait at a window's end.
        """
        options = self._options
        workers = ThreadPoolExecutor(options.workers, "mmseek-prepare")
        lanes = ThreadPoolExecutor(options.lanes, "mmseek-model", use_one_core if options.lanes > 1 else None)
        try:
            # A lone request, a query say, is prepared in this thread: starting another takes longer than most texts do.
            lone = isinstance(requests, Sequence) and len(requests) == 1
            prepared = _one_ahead(self._read(iter(requests), _HereAndNow() if lone else workers))
            for window in _one_ahead(self._schedule(window, lanes) for window in prepared):
                yield from self._collect(window)
                if window.input_error is not None:
                    raise window.input_error
        finally:
            for pool in (workers, lanes):
                pool.shutdown(wait=False, cancel_futures=True)
            for pool in (workers, lanes):
                pool.shutdown(wait=True)

    def _read(self, source: Iterator[EncodeRequest], workers: Executor) -> Iterator[_Window]:
        """Windows whose requests are being prepared."""
        window = _Window(first=True)
        while not window.last:
            size = 0
            while not self._is_full(window, size):
                try:
                    request = next(source)
                except StopIteration:
                    window.last = True
                    break
                except Exception as error:  # noqa: BLE001 - kept, and raised after the requests that came before it
                    window.last, window.input_error = True, error
                    break
                size += _size(request)
                window.requests.append(request)
                window.prepared.append(workers.submit(self._prepare, request))
            yield window
            window = window if window.last else _Window()

    def _is_full(self, window: _Window, size: int) -> bool:
        count, most = len(window.requests), self._options.window_bytes
        soon = most // (32 if window.first else 8) if count >= _FEW else most
        return count >= self._options.window or size >= soon

    def _prepare(self, request: EncodeRequest) -> _Prepared:
        try:
            return self._recipe.prepare(request)
        except MmseekError as error:
            return error
        except Exception as error:  # noqa: BLE001 - one bad item never kills the rest
            return _blame(error, "could not be prepared")

    def _schedule(self, window: _Window, lanes: ThreadPoolExecutor) -> _Window:
        """Wait until a window is prepared, drop its duplicates, sort and cut it, and give its batches to the lanes."""
        unique: dict[str, dict[Hashable, Unit]] = {}
        for future in window.prepared:
            units = future.result()
            for unit in () if isinstance(units, MmseekError) else units:
                unique.setdefault(unit.kind, {}).setdefault(unit.key, unit)
        # The last batches are all that keeps the lanes busy, so these share them evenly; earlier ones always suffice.
        whole = window.first and window.last
        lanes_of = self._options.lanes if window.last else 1
        batches = [
            batch for kind, units in unique.items() for batch in self._batches(kind, list(units.values()), lanes_of)
        ]
        # A stream of a single batch (one query) has the machine to itself: it runs in this thread, on all cores.
        alone = whole and len(batches) == 1
        window.batches = [(batch, None if alone else lanes.submit(self._forward, batch)) for batch in batches]
        return window

    def _batches(self, kind: str, units: list[Unit], lanes: int) -> Iterator[list[Unit]]:
        """The most expensive first: if memory is short that shows at once, and the lanes end at about the same time."""
        units.sort(key=lambda unit: unit.cost, reverse=True)
        budget = shared_budget([unit.cost for unit in units], self._budgets[kind], lanes)
        while units:
            count = cut_by_cost([unit.cost for unit in units], budget)
            yield units[:count]
            units = units[count:]

    def _forward(self, batch: Sequence[Unit]) -> list[_Row]:
        """Encode a batch; one that fails is halved until only what is to blame fails."""
        kind = batch[0].kind
        half = len(batch) // 2
        cost = self._budgets[kind].of([unit.cost for unit in batch])
        if half and cost > self._budgets[kind].cost:  # lowered since this batch was cut
            return self._forward(batch[:half]) + self._forward(batch[half:])
        failure: Exception
        try:
            vectors = self._recipe.forward(kind, [unit.payload for unit in batch])
            if len(vectors) != len(batch):
                raise EncodeError(f"the model gave {len(vectors)} vectors for {len(batch)} items: report this as a bug")
            return list(vectors)
        except Exception as error:  # noqa: BLE001 - looked at below, where its traceback no longer holds the batch
            failure = error.with_traceback(None)
        out_of_memory = is_out_of_memory(failure)
        if out_of_memory:
            free_cached_memory()
            self._budgets[kind] = self._budgets[kind].at_most(cost // 2)
        if half:
            return self._forward(batch[:half]) + self._forward(batch[half:])
        if isinstance(failure, MmseekError):
            return [failure]
        return [_blame(failure, "does not fit into memory" if out_of_memory else "made the model fail")]

    def _collect(self, window: _Window) -> Iterator[Encoded]:
        rows: _Rows = {}
        for batch, future in window.batches:
            for unit, row in zip(batch, self._forward(batch) if future is None else future.result(), strict=True):
                rows[unit.kind, unit.key] = row
        for request, prepared in zip(window.requests, window.prepared, strict=True):
            yield self._finish(request, prepared.result(), rows)

    def _finish(self, request: EncodeRequest, units: _Prepared, rows: Mapping[tuple[str, Hashable], _Row]) -> Encoded:
        if isinstance(units, MmseekError):
            return Encoded(error=units)
        vectors: list[FloatArray] = []
        for unit in units:
            row = rows[unit.kind, unit.key]
            if isinstance(row, MmseekError):
                return Encoded(error=row)
            vectors.append(row)
        try:
            vector = _normalised(self._recipe.combine(request, units, vectors))
            return Encoded(vector=vector, tokens=sum(unit.cost for unit in units))
        except MmseekError as error:
            return Encoded(error=error)
        except Exception as error:  # noqa: BLE001 - as in _prepare
            return Encoded(error=_blame(error, "could not be put together"))


class _HereAndNow(Executor):
    """Calls in the thread that submits them."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        done: Future[T] = Future()
        done.set_result(fn(*args, **kwargs))
        return done


def _one_ahead(windows: Iterable[_Window]) -> Iterator[_Window]:
    """The same windows, each handed out when the next has been made."""
    previous: _Window | None = None
    for window in windows:
        if previous is not None:
            yield previous
        previous = window
    if previous is not None:
        yield previous


def _normalised(vector: FloatArray) -> FloatArray:
    """To length 1, in float32; of many vectors, each.

    Raises:
        EncodeError: NaN, infinite or zero.
    """
    wide = np.asarray(vector, dtype=np.float64)
    length = np.linalg.norm(wide, axis=-1, keepdims=True)
    if not np.isfinite(length).all() or not length.all():
        what = "not finite" if not np.isfinite(length).all() else "zero"
        raise EncodeError(f"the model gave a vector that is {what}: leave this item out, or run the model in float32")
    unit: FloatArray = (wide / length).astype(np.float32)
    return unit


def _blame(error: BaseException, what: str) -> EncodeError:
    reason = " ".join(str(error).split())[:300]
    wrapped = EncodeError(f"this item {what} ({type(error).__name__}: {reason}): leave it out or make it smaller")
    wrapped.__cause__ = error
    return wrapped


def _size(request: EncodeRequest) -> int:
    content = request.content
    return sum(len(text) for text in content.texts) + sum(len(image.data or b"") for image in content.images)
