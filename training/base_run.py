"""What every training run has: its configuration, its sources, its folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from mmseek.errors import ConfigError, MissingExtra
from mmseek.training.configuring import from_mapping, overridden, read_yaml, to_mapping
from mmseek.training.data import open_source

if TYPE_CHECKING:
    from mmseek.errors import ItemError
    from mmseek.training.data.rows import Source
    from mmseek.training.sampling import BatchPlan
    from mmseek.training.settings import BatchConfig, DataConfig, RunConfig, ScheduleConfig

__all__ = ["BaseRun", "Trained", "read_config", "require_extra"]

_EXTRA: Final = ("accelerate", "datasets", "yaml")
# What of `run` changes the outcome; the rest may be otherwise when a run goes on.
_KEPT: Final = ("seed", "precision")
# What `run.device` may be.
_DEVICES: Final = (None, "auto", "cpu", "mps", "cuda", "cuda:0")


class RunSettings(Protocol):
    """A configuration of a run, of whatever is trained."""

    @property
    def data(self) -> DataConfig: ...
    @property
    def batch(self) -> BatchConfig: ...
    @property
    def schedule(self) -> ScheduleConfig: ...
    @property
    def run(self) -> RunConfig: ...


Settings = TypeVar("Settings", bound=RunSettings)
T = TypeVar("T")


def require_extra() -> None:
    """Make sure that the parts that training needs are installed.

    Raises:
        MissingExtra: they are not.
    """
    if any(find_spec(name) is None for name in _EXTRA):
        raise MissingExtra("training", "train")


@dataclass(frozen=True, slots=True)
class Trained:
    """What came out of a run: the spec that `mmseek embed` takes, the steps done, the last loss, rows left out."""

    spec: str
    steps: int
    loss: float
    resumed_from: int
    skipped: tuple[str, ...]


def read_config(kind: type[T], path: Path, changes: Sequence[str] = ()) -> T:
    """The configuration in a YAML file with `a.b=value` changes applied.

    Raises:
        ConfigError: something in it is wrong; the sentence names the dotted path.
        MissingExtra: the parts for training are not installed.
    """
    require_extra()
    try:
        return from_mapping(kind, overridden(read_yaml(path), changes))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


class BaseRun(Generic[Settings]):
    """A run, ready to start. Sources are opened when first asked for.

    Args:
        config: of the run.
    """

    def __init__(self, config: Settings) -> None:
        require_extra()
        self.config = config
        self.output = Path(config.run.output).expanduser()
        self._sources: list[Source] | None = None

    @property
    def sources(self) -> list[Source]:
        """The opened sources.

        Raises:
            InputError: one cannot be read.
            ConfigError: rows are bad, and they are not to be skipped.
        """
        if self._sources is None:
            found = [open_source(source) for source in self.config.data.sources]
            bad = [error for source in found for error in source.bad]
            if bad and not self.config.data.skip_bad_rows:
                more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
                raise ConfigError(
                    f"{bad[0]}{more}: repair it, or leave such rows out with --set data.skip_bad_rows=true"
                )
            self._sources = found
        return self._sources

    @property
    def bad_rows(self) -> list[ItemError]:
        """What is left out of the sources."""
        return [error for source in self.sources for error in source.bad]

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        schedule = self.config.schedule
        if schedule.steps:
            return schedule.steps
        return max(1, math.ceil(sum(map(len, self.sources)) * schedule.epochs / self.config.batch.size))

    @property
    def weights(self) -> list[float]:
        """How often each source is drawn, adding up to 1."""
        sizes = map(len, self.sources)
        own = [each.weight or size for each, size in zip(self.config.data.sources, sizes, strict=True)]
        return [weight / sum(own) for weight in own]

    def batches(self, *, rank: int = 0, world: int = 1) -> BatchPlan:
        """Which rows make which batch.

        Raises:
            ConfigError: the batch does not divide by the processes, or by the sub-batches.
        """
        from mmseek.training.sampling import BatchPlan

        return BatchPlan(
            [len(source) for source in self.sources],
            self.weights,
            self.config.batch.size,
            sub_batch=self.config.batch.sub_batch,
            seed=self.config.run.seed,
            rank=rank,
            world=world,
        )

    def check_device(self) -> None:
        """See that `run.device` is one that training takes.

        Raises:
            ConfigError: it is not.
        """
        device = self.config.run.device
        if device not in _DEVICES:
            raise ConfigError(
                f"run.device {device}: training takes the first accelerator that it sees; "
                "choose with CUDA_VISIBLE_DEVICES and leave run.device out"
            )

    def claim(self) -> None:
        """Make the folder this run's, or see that it is."""
        import yaml

        mine = to_mapping(self.config)
        path = self.output / "config.yaml"
        if path.is_file():
            theirs = to_mapping(from_mapping(type(self.config), read_yaml(path)))
            different = _differing(mine, theirs)
            if different and any(self.output.glob("checkpoint-*")):
                raise ConfigError(
                    f"{self.output} holds a run with another {different[0]}: give another run.output, or delete it"
                )
        try:
            self.output.mkdir(parents=True, exist_ok=True)
            path.write_text(yaml.safe_dump(mine, sort_keys=False, allow_unicode=True), encoding="utf-8")
        except OSError as error:
            raise ConfigError(
                f"run.output {self.output} cannot be written ({error.strerror}): choose another"
            ) from error


def _differing(mine: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Dotted paths of the settings that change the outcome and are not equal."""
    flat = [_flat({**each, "run": {name: each["run"][name] for name in _KEPT}, "notes": ""}) for each in (mine, theirs)]
    return sorted(path for path in {*flat[0], *flat[1]} if flat[0].get(path) != flat[1].get(path))


def _flat(settings: dict[str, Any], path: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= _flat(value, f"{path}{key}.") if isinstance(value, dict) else {f"{path}{key}": value}
    return found
