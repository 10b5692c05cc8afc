"""A training run from its configuration: what is opened, in which order, and what is left behind in its folder.

OUTPUT/config.yaml     the configuration
OUTPUT/log.jsonl       a line a step: loss, gradient norm, learning rate, samples a second
OUTPUT/tensorboard/    the same as curves
OUTPUT/checkpoint-N/   what a killed run goes on from
OUTPUT/model/          the trained encoder, which `mmseek embed` loads
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mmseek.errors import ConfigError
from mmseek.training.base_run import BaseRun, Trained, read_config
from mmseek.training.settings import TrainConfig

if TYPE_CHECKING:
    from mmseek._types import EncodeRequest
    from mmseek.training.batches import Loader
    from mmseek.training.families.base import Prepared, Trainable
    from mmseek.training.logs import StepReport

__all__ = ["RECIPES", "Run", "Trained", "load_config"]

RECIPES = Path(__file__).with_name("recipes")


def load_config(name: str | Path, changes: tuple[str, ...] | list[str] = ()) -> TrainConfig:
    """The configuration in a YAML file, or of a recipe's name, with `a.b=value` changes applied.

    Raises:
        ConfigError: no such file or recipe, or something in it is wrong; the sentence names the dotted path.
        MissingExtra: the parts for training are not installed.
    """
    path = Path(name).expanduser()
    if not path.is_file():
        recipe = RECIPES / f"{name}.yaml"
        if not recipe.is_file():
            known = ", ".join(sorted(each.stem for each in RECIPES.glob("*.yaml")))
            raise ConfigError(f"{name} is neither a file nor a recipe: the recipes are {known}")
        path = recipe
    return read_config(TrainConfig, path, changes)


class Run(BaseRun[TrainConfig]):
    """A run, ready to start. Sources are opened and the model is loaded when first asked for.

    Args:
        config: of the run.
    """

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        self._trainable: Trainable | None = None

    @property
    def trainable(self) -> Trainable:
        """The loaded model with its adapters, on its device."""
        if self._trainable is None:
            from torch import manual_seed

            from mmseek.training.adapters import tune
            from mmseek.training.families import load_trainable
            from mmseek.training.gathering import own_device

            config = self.config
            self.check_device()
            # Before the adapters, which begin with random numbers.
            manual_seed(config.run.seed)
            trainable = load_trainable(config.model.encoder, device=own_device(config.run.device))
            if config.loss.visual and not trainable.has_two_vectors:
                raise ConfigError(
                    f"loss.visual: the family {trainable.family} has no vectors of pictures besides, leave it out"
                )
            trainable.two_vectors = config.loss.visual > 0
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
                self.claim()
                prune(self.output, self.config.run.keep)
            _wait_for_all()
            resume = latest(self.output)
            began = 0 if resume is None else int(resume.name.removeprefix("checkpoint-"))
            loader = self._loader(self._prepared_once())
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

    def _loader(self, prepare: Callable[[EncodeRequest], Prepared] | None = None) -> Loader:
        from mmseek.training.batches import Loader
        from mmseek.training.gathering import rank, world_size

        config = self.config
        return Loader(
            self.batches(rank=rank(), world=world_size()),
            self.sources,
            prepare or self.trainable.prepare,
            negatives=config.data.negatives,
            steps=self.steps,
            workers=config.run.workers,
            skip_bad_rows=config.data.skip_bad_rows,
        )

    def _prepared_once(self) -> Callable[[EncodeRequest], Prepared] | None:
        """With `run.features`, what prepares requests with what is kept; all that is missing is computed first."""
        run = self.config.run
        if not run.features:
            return None
        from mmseek.training.features import Features, requests_of
        from mmseek.training.gathering import rank, world_size

        features = Features(self.trainable, Path(run.features).expanduser(), precision=run.precision)
        features.fill(requests_of(self.sources, rank(), world_size()), workers=run.workers)
        _wait_for_all()
        return features.prepare

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


def _wait_for_all() -> None:
    from torch import distributed

    from mmseek.training.gathering import world_size

    if world_size() > 1:
        distributed.barrier()
