"""A training run from its configuration: what is opened, in which order, and what is left behind in its folder.

OUTPUT/config.yaml     the configuration
OUTPUT/log.jsonl       a line a step: loss, gradient norm, learning rate, samples a second
OUTPUT/tensorboard/    the same as curves
OUTPUT/checkpoint-N/   what a killed run goes on from
OUTPUT/model/          the trained encoder, which `mmseek embed` loads
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmseek.errors import ConfigError, MissingExtra
from mmseek.training.configuring import from_mapping, overridden, read_yaml, to_mapping
from mmseek.training.data import open_source
from mmseek.training.settings import TrainConfig

if TYPE_CHECKING:
    from mmseek.errors import ItemError
    from mmseek.training.batches import Loader
    from mmseek.training.data.rows import Source
    from mmseek.training.families.base import Trainable
    from mmseek.training.trainer import StepReport

__all__ = ["RECIPES", "Run", "Trained", "load_config"]

RECIPES = Path(__file__).with_name("recipes")
_EXTRA = ("accelerate", "datasets", "yaml")
# What of `run` changes the outcome; the rest may be otherwise when a run goes on.
_KEPT = ("seed", "precision")


def load_config(name: str | Path, changes: tuple[str, ...] | list[str] = ()) -> TrainConfig:
    """The configuration in a YAML file, or of a recipe's name, with `a.b=value` changes applied.

    Raises:
        ConfigError: no such file or recipe, or something in it is wrong; the sentence names the dotted path.
        MissingExtra: the parts for training are not installed.
    """
    require_extra()
    path = Path(name).expanduser()
    if not path.is_file():
        recipe = RECIPES / f"{name}.yaml"
        if not recipe.is_file():
            known = ", ".join(sorted(each.stem for each in RECIPES.glob("*.yaml")))
            raise ConfigError(f"{name} is neither a file nor a recipe: the recipes are {known}")
        path = recipe
    try:
        return from_mapping(TrainConfig, overridden(read_yaml(path), changes))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


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


class Run:
    """A run, ready to start. Sources are opened and the model is loaded when first asked for.

    Args:
        config: of the run.
    """

    def __init__(self, config: TrainConfig) -> None:
        require_extra()
        self.config = config
        self.output = Path(config.run.output).expanduser()
        self._sources: list[Source] | None = None
        self._trainable: Trainable | None = None

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

    @property
    def trainable(self) -> Trainable:
        """The loaded model with its adapters, on its device."""
        if self._trainable is None:
            from torch import manual_seed

            from mmseek.training.adapters import tune
            from mmseek.training.families import load_trainable
            from mmseek.training.gathering import own_device

            config = self.config
            if config.run.device not in (None, "auto", "cpu", "mps", "cuda", "cuda:0"):
                raise ConfigError(
                    f"run.device {config.run.device}: training takes the first accelerator that it sees; "
                    "choose with CUDA_VISIBLE_DEVICES and leave run.device out"
                )
            # Before the adapters, which begin with random numbers.
            manual_seed(config.run.seed)
            trainable = load_trainable(config.model.encoder, device=own_device(config.run.device))
            longest = max(config.loss.matryoshka, default=0)
            if longest > trainable.dim:
                raise ConfigError(f"loss.matryoshka has {longest}, and the vectors have {trainable.dim} dimensions")
            if config.model.tune.method == "full" or config.run.precision == "fp32":
                # On an accelerator families load bfloat16, which is enough for what adapters stand beside.
                trainable.inner.float()
            tune(trainable.inner, config.model)
            if config.model.gradient_checkpointing and not trainable.gradient_checkpointing():
                raise ConfigError(f"model.gradient_checkpointing: the family {trainable.family} cannot, leave it out")
            self._trainable = trainable
        return self._trainable

    def start(self, on_step: Callable[[StepReport], None] | None = None) -> Trained:
        """Train, from the newest checkpoint of the folder if there is one, and write the model.

        Raises:
            ConfigError: the folder holds a run of another configuration.
            DatasetError: a row cannot be used.
            StorageError: the disk is full or read-only.
        """
        from mmseek.training.checkpointing import latest, prune, written_whole
        from mmseek.training.gathering import rank, together
        from mmseek.training.logs import StepLog

        with together(self.config.run.device):
            if rank() == 0:
                self._claim()
                prune(self.output, self.config.run.keep)
            _wait_for_all()
            resume = latest(self.output)
            began = 0 if resume is None else int(resume.name.removeprefix("checkpoint-"))
            loader = self._loader()
            with StepLog(self.output, from_step=began, curves=self.config.run.tensorboard, quiet=rank() > 0) as log:

                def told(report: StepReport) -> None:
                    log.add(report)
                    if on_step is not None:
                        on_step(report)

                self._train(loader, resume, told)
            if rank() == 0:
                written_whole(self.output / "model", self.export)
            _wait_for_all()
        spec = f"{self.trainable.family}:{self.output / 'model'}"
        return Trained(spec, self.steps, log.last_loss, began, tuple(loader.skipped.values()))

    def _loader(self) -> Loader:
        from mmseek.training.batches import Loader
        from mmseek.training.gathering import rank, world_size
        from mmseek.training.sampling import BatchPlan

        config = self.config
        plan = BatchPlan(
            [len(source) for source in self.sources],
            self.weights,
            config.batch.size,
            sub_batch=config.batch.sub_batch,
            seed=config.run.seed,
            rank=rank(),
            world=world_size(),
        )
        return Loader(
            plan,
            self.sources,
            self.trainable.prepare,
            negatives=config.data.negatives,
            steps=self.steps,
            workers=config.run.workers,
            skip_bad_rows=config.data.skip_bad_rows,
        )

    def _train(self, loader: Loader, resume: Path | None, on_step: Callable[[StepReport], None]) -> None:
        from mmseek.training.trainer import ContrastiveTrainer

        device = str(next(self.trainable.inner.parameters()).device)
        trainer = ContrastiveTrainer(
            self.trainable, self.config, loader, device=device, export=self.export, on_step=on_step
        )
        trainer.run(resume)

    def export(self, folder: Path) -> None:
        """Write the model as it is now into an empty folder."""
        from mmseek.training.adapters import merged_state

        state = merged_state(self.trainable.inner)
        self.trainable.export(folder, state)

    def _claim(self) -> None:
        """Make the folder this run's, or see that it is."""
        import yaml

        mine = to_mapping(self.config)
        path = self.output / "config.yaml"
        if path.is_file():
            theirs = to_mapping(from_mapping(TrainConfig, read_yaml(path)))
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


def _wait_for_all() -> None:
    from torch import distributed

    from mmseek.training.gathering import world_size

    if world_size() > 1:
        distributed.barrier()
