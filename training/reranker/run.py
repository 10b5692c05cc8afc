"""A reranker's training from its configuration.

OUTPUT/config.yaml, log.jsonl, tensorboard/, checkpoint-N/   as of an encoder's training, see `mmseek.training.run`
OUTPUT/model/                                                the adapter, which `mmseek rerank` loads
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mmseek.errors import ConfigError
from mmseek.training.base_run import BaseRun, Trained, read_config
from mmseek.training.reranker.settings import RerankerConfig

if TYPE_CHECKING:
    from mmseek.training.logs import StepReport
    from mmseek.training.reranker.model import TrainableReranker
    from mmseek.training.reranker.pairs import PairLoader

__all__ = ["RerankerRun", "load_reranker_config"]


def load_reranker_config(path: str | Path, changes: Sequence[str] = ()) -> RerankerConfig:
    """The configuration in a YAML file, with `a.b=value` changes applied.

    Raises:
        ConfigError: no such file, or something in it is wrong; the sentence names the dotted path.
        MissingExtra: the parts for training are not installed.
    """
    return read_config(RerankerConfig, Path(path).expanduser(), changes)


class RerankerRun(BaseRun[RerankerConfig]):
    """A run, ready to start, in one process. Sources are opened and the model is loaded when first asked for.

    Args:
        config: of the run.
    """

    def __init__(self, config: RerankerConfig) -> None:
        super().__init__(config)
        self._trainable: TrainableReranker | None = None

    @property
    def trainable(self) -> TrainableReranker:
        """The loaded model with its adapter, on its device."""
        if self._trainable is None:
            from torch import manual_seed

            from mmseek.training.gathering import own_device, world_size
            from mmseek.training.reranker.model import load_trainable_reranker

            self.check_device()
            if world_size() > 1:
                raise ConfigError("a reranker is trained in one process: start it without torchrun")
            # Before the adapter, which begins with random numbers.
            manual_seed(self.config.run.seed)
            model, device = self.config.model, own_device(self.config.run.device)
            self._trainable = load_trainable_reranker(model.reranker, model.tune, device=device)
            if self.config.run.precision == "fp32":
                self._trainable.reranker.backbone.model.float()
        return self._trainable

    def start(self, on_step: Callable[[StepReport], None] | None = None) -> Trained:
        """Train, from the newest checkpoint of the folder if there is one, and write the adapter.

        Raises:
            ConfigError: the folder holds a run of another configuration.
            DatasetError: a row cannot be used.
            StorageError: the disk is full or read-only.
        """
        from mmseek.training.checkpointing import latest, prune, written_whole
        from mmseek.training.logs import StepLog
        from mmseek.training.reranker.loop import train

        self.claim()
        prune(self.output, self.config.run.keep)
        resume = latest(self.output)
        loader = self._loader()
        loader.start = 0 if resume is None else int(resume.name.removeprefix("checkpoint-"))
        with StepLog(self.output, from_step=loader.start, curves=self.config.run.tensorboard) as log:
            for report in train(self.trainable, self.config, loader, resume):
                log.add(report)
                if on_step is not None:
                    on_step(report)
        self.trainable.module.eval()
        written_whole(self.output / "model", self.trainable.export)
        family = self.config.model.reranker.partition(":")[0]
        spec = f"{family}:{self.output / 'model'}"
        return Trained(spec, self.steps, log.last_loss, loader.start, tuple(loader.skipped.values()))

    def _loader(self) -> PairLoader:
        from mmseek.training.reranker.pairs import PairLoader

        return PairLoader(
            self.batches(),
            self.sources,
            self.trainable.prepare,
            negatives=self.config.data.negatives,
            steps=self.steps,
            workers=self.config.run.workers,
            skip_bad_rows=self.config.data.skip_bad_rows,
        )
