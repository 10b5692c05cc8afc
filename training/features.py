"""What the frozen part of a model gives for each item, computed once and kept in a file: `run.features`.

Rows are kept under a hash of the frozen weights, the kind of item and what was prepared for the model, so one file may
serve any number of runs and models. They are read back bit for bit, so that a run that goes on after a kill sees the
numbers that it saw before, whatever was computed together with what.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from mmseek import __version__
from mmseek.digest import content_key
from mmseek.embed.batching import Budget, cut_by_cost
from mmseek.embed.cache_file import CacheFile
from mmseek.errors import ConfigError, MmseekError, StorageError
from mmseek.training.families.stems import Kept, Stemmed

if TYPE_CHECKING:
    from mmseek._types import EncodeRequest
    from mmseek.embed.engine import Unit
    from mmseek.training.data.rows import Source
    from mmseek.training.families.base import Prepared, Trainable

__all__ = ["Features", "requests_of"]

# Units that are computed before their rows are written, and requests that are prepared before they are looked at.
_SHARD: Final = 1024
_WINDOW: Final = 64
# Nothing is thrown away.
_BYTES: Final = 2**62
# Rows that are held in memory besides; the others are read from the file each time.
_HELD: Final = 2**28


class Features:
    """Prepares requests with what is kept in place of what the stem would have to see again.

    Args:
        trainable: the encoder, its parameters frozen or not as they will be.
        path: of the file; its folder is made.
        precision: of the run.

    Raises:
        ConfigError: the family has no stem, or all of it is trained.
        StorageError: the file cannot be written.
    """

    def __init__(self, trainable: Trainable, path: Path, *, precision: str = "fp32") -> None:
        if not isinstance(trainable, Stemmed):
            raise ConfigError(
                f"run.features: the family {trainable.family} has no part whose outputs could be kept, leave it out"
            )
        self._kinds = frozenset(trainable.frozen_kinds())
        if not self._kinds:
            raise ConfigError(
                "run.features: all that comes before the heads is trained: freeze a tower with model.freeze, "
                "or leave it out"
            )
        self._trainable, self._bf16 = trainable, precision == "bf16"
        self._mark = self._marked(precision)
        self._file = CacheFile(path, max_bytes=_BYTES)
        if not self._file.usable:
            raise StorageError(f"run.features: {path} cannot be written: choose another file")
        # Of requests whose units are all kept: the units with what is kept, or without it where memory is full.
        self._known: dict[tuple[str, str, str | None], Prepared] = {}
        self._held = 0

    def _marked(self, precision: str) -> bytes:
        """A hash of all that decides what the stems of the frozen kinds give."""
        trainable = self._trainable
        state = hashlib.sha256(f"{__version__} {type(trainable).__name__} {precision}".encode())
        for kind, tensors in sorted(trainable.stem_state().items()):
            if kind in self._kinds:
                state.update(kind.encode())
                for name, tensor in sorted(tensors.items()):
                    state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                    state.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return state.digest()

    def _key(self, unit: Unit) -> bytes:
        own = unit.key if isinstance(unit.key, bytes) else repr(unit.key).encode()
        return hashlib.sha256(self._mark + unit.kind.encode() + b"\0" + own).digest()

    def prepare(self, request: EncodeRequest) -> Prepared:
        """As `Trainable.prepare`. Safe in threads.

        Raises:
            MmseekError: the request cannot be encoded.
        """
        name = (content_key(request.content), request.role, request.instruction)
        known = self._known.get(name)
        if known is not None:
            light = known if _is_light(known) else self._filled(known)
            if _is_light(light):
                return light
        made = self._filled(self._trainable.prepare(request))
        if _is_light(made):
            self._remember(name, made)
        return made

    def _remember(self, name: tuple[str, str, str | None], made: Prepared) -> None:
        size = sum(unit.payload.stem.nbytes for unit in made)
        if self._held + size > _HELD:
            made = type(made)(replace(unit, payload=None) for unit in made)
        elif name not in self._known:
            self._held += size
        self._known[name] = made

    def _filled(self, prepared: Prepared) -> Prepared:
        """With what is kept in place of payloads, where it is there."""
        keys = [self._key(unit) if unit.kind in self._kinds else None for unit in prepared]
        found = self._file.get([key for key in keys if key is not None])
        return type(prepared)(
            unit if key is None or key not in found else replace(unit, payload=Kept(found[key]))
            for unit, key in zip(prepared, keys, strict=True)
        )

    def fill(
        self,
        requests: Iterable[EncodeRequest],
        *,
        workers: int = 2,
        on_progress: Callable[[int], None] = lambda _: None,
    ) -> int:
        """Compute what is not kept yet, a shard at a time; how many units that were.

        A request that cannot be used is passed over: the step that wants it says what is wrong.
        """
        missing: dict[bytes, Unit] = {}
        count = 0
        with ThreadPoolExecutor(workers, "mmseek-features") as pool:
            source = iter(requests)
            while window := list(islice(source, _WINDOW)):
                for unit in (unit for units in pool.map(self._units, window) for unit in units):
                    if unit.kind in self._kinds and not isinstance(unit.payload, Kept):
                        missing.setdefault(self._key(unit), unit)
                if len(missing) >= _SHARD:
                    count += self._compute(missing)
                    on_progress(count)
        count += self._compute(missing)
        on_progress(count)
        return count

    def _units(self, request: EncodeRequest) -> Sequence[Unit]:
        try:
            return self.prepare(request)
        except MmseekError:
            return ()

    @torch.no_grad()
    def _compute(self, missing: dict[bytes, Unit]) -> int:
        """Run the stems over the units, keep what they give, and empty the dictionary."""
        count, trainable = len(missing), self._trainable
        # Dropout of what is frozen would be kept with it.
        was_training = trainable.training
        trainable.eval()
        device = next(trainable.inner.parameters()).device.type
        for kind in sorted({unit.kind for unit in missing.values()}):
            keys = [key for key, unit in missing.items() if unit.kind == kind]
            keys.sort(key=lambda key: (-missing[key].cost, key))
            for batch in _cut(keys, [missing[key].cost for key in keys], trainable.budgets[kind]):
                with torch.autocast(device, dtype=torch.bfloat16, enabled=self._bf16):
                    rows = trainable.stem(kind, [missing[key].payload for key in batch])
                self._file.put(dict(zip(batch, rows.float().cpu().numpy(), strict=True)))
        trainable.train(was_training)
        missing.clear()
        return count


def _is_light(prepared: Prepared) -> bool:
    return all(isinstance(unit.payload, Kept) for unit in prepared)


def _cut(keys: Sequence[bytes], costs: Sequence[int], budget: Budget) -> Iterator[Sequence[bytes]]:
    while keys:
        count = cut_by_cost(costs, budget)
        yield keys[:count]
        keys, costs = keys[count:], costs[count:]


def requests_of(sources: Sequence[Source], rank: int = 0, world: int = 1) -> Iterator[EncodeRequest]:
    """All that the rows hold, or one process's share of them."""
    for source in sources:
        for number in range(rank, len(source), world):
            try:
                row = source.row(number)
            except MmseekError:
                continue
            yield from (row.query, *row.positives, *row.negatives)
