"""sentence-transformers' trainer with our encoders, our batches and our checkpoints.

From the trainer come the loop, AdamW and its groups, the schedules, clipping and the call-backs. Ours are: a step that
works in chunks and averages gradients over processes itself (wrapped models would count the chunks as steps), batches
by number, and checkpoints without pickle.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from torch import Tensor, distributed, nn
from transformers import PrinterCallback

from mmseek.errors import ModelError
from mmseek.training import checkpointing
from mmseek.training.batches import Batch, Loader, make_chunks
from mmseek.training.families.base import Trainable
from mmseek.training.gathering import average_gradients, rank, world_size
from mmseek.training.gradcache import backward_in_chunks
from mmseek.training.logs import StepReport
from mmseek.training.loss import Contrastive
from mmseek.training.settings import TrainConfig

__all__ = ["ContrastiveTrainer", "training_arguments"]

_STATE = "trainer_state.json"


def training_arguments(config: TrainConfig, steps: int, device: str) -> SentenceTransformerTrainingArguments:
    """The trainer's own settings."""
    run, optimizer = config.run, config.optimizer
    return SentenceTransformerTrainingArguments(
        output_dir=run.output,
        max_steps=steps,
        per_device_train_batch_size=config.batch.size // world_size(),
        learning_rate=optimizer.rate,
        adam_beta1=optimizer.betas[0],
        adam_beta2=optimizer.betas[1],
        adam_epsilon=optimizer.eps,
        weight_decay=optimizer.weight_decay,
        max_grad_norm=optimizer.clip,
        lr_scheduler_type="constant_with_warmup" if config.schedule.kind == "constant" else config.schedule.kind,
        warmup_steps=config.schedule.warmup,
        seed=run.seed,
        save_strategy="steps",
        save_steps=run.save_every or steps,
        logging_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=device == "cpu",
        # The loader knows the step that it starts with; reading over batches would be for nothing.
        ignore_data_skip=True,
        ddp_backend="gloo" if device == "cpu" and world_size() > 1 else None,
    )


class ContrastiveTrainer(SentenceTransformerTrainer):  # type: ignore[misc]  # the library has no types
    """Trains a `Trainable`.

    Args:
        trainable: the encoder.
        config: of the run.
        loader: its batches; `len` is the number of steps.
        device: where the weights are.
        export: writes the whole model into a folder.
        on_step: told of every step; in process 0 only.
    """

    def __init__(
        self,
        trainable: Trainable,
        config: TrainConfig,
        loader: Loader,
        *,
        device: str,
        export: Callable[[Path], None],
        on_step: Callable[[StepReport], None],
    ) -> None:
        model = SentenceTransformer(modules=[trainable], device=device)
        arguments = training_arguments(config, len(loader), device)
        super().__init__(model=model, args=arguments, loss=Contrastive(config.loss, model))
        self.remove_callback(PrinterCallback)
        self._trainable, self._config, self._loader = trainable, config, loader
        self._export, self._on_step = export, on_step
        self._grad_norm = self._last_loss = 0.0
        self._reported = 0
        self._began = self._first = 0.0
        self._first_step = 0
        # One process's model is never wrapped: a step runs it many times, and averages gradients itself.
        prepare = self.accelerator.prepare_model
        self.accelerator.prepare_model = lambda model, **rest: prepare(model, **{**rest, "evaluation_mode": True})

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """No card is written."""

    def get_train_dataloader(self) -> Loader:
        """Our batches."""
        return self._loader

    def _wrap_model(self, model: nn.Module, training: bool = True, dataloader: Any = None) -> nn.Module:
        """Not wrapped, see above."""
        del training, dataloader
        return model

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """All but biases, norms and the temperature."""
        names: list[str] = super().get_decay_parameter_names(model)
        return [name for name in names if name.rpartition(".")[2] != "logit_scale"]

    def training_step(self, model: nn.Module, inputs: Batch, num_items_in_batch: Any = None) -> Tensor:
        """One batch: gradients of the whole of it, over all processes, and its loss."""
        del num_items_in_batch
        model.train()
        layout, places = inputs.layout.to(self.args.device), inputs.places.to(self.args.device)
        bf16 = self._config.run.precision == "bf16"

        def encode(items: Any) -> Tensor:
            with torch.autocast(self.args.device.type, dtype=torch.bfloat16, enabled=bf16):
                return self._trainable.vectors(items)

        chunks = make_chunks(inputs.items, self._config.batch)
        loss = backward_in_chunks(encode, inputs.items, chunks, lambda rows: self.loss(rows[places], layout))
        average_gradients(list(self.loss.parameters()))
        if world_size() > 1:
            distributed.all_reduce(loss)
            loss /= world_size()
        self._last_loss = float(loss)
        if not math.isfinite(self._last_loss):
            raise ModelError(
                f"the loss of step {self.state.global_step + 1} is {self._last_loss}: lower optimizer.rate, warm up "
                "longer, or train with run.precision=fp32; the last checkpoint is kept"
            )
        return loss

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted."""
        del inputs
        return 0

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> None:
        """Not counted: the loss is a mean already."""
        del batch_samples, device

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        self._grad_norm = float(norm) if norm is not None else float("nan")
        return norm

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        """Called after each step, and once more at the end of all."""
        if self.state.global_step > self._reported:
            self._reported = self.state.global_step
            if rank() == 0:
                self._on_step(self._report(kwargs.get("learning_rate")))
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def _report(self, rate: float | None) -> StepReport:
        now, step = time.monotonic(), self.state.global_step
        if not self._first:
            self._first, self._first_step = now, step
        # The first step pays for what is loaded late, so the pace is measured from there.
        done, seconds = step - self._first_step, now - self._first
        pace = done / seconds if done else 1 / max(now - self._began, 1e-9)
        left = (self.state.max_steps - step) / pace
        rate = rate if rate is not None else 0.0
        samples = pace * self._config.batch.size
        return StepReport(step, self.state.max_steps, self._last_loss, self._grad_norm, rate, samples, left)

    def run(self, resume: Path | None) -> None:
        """Train to the end, from a checkpoint if one is given."""
        if resume is not None:
            self._loader.start = int(resume.name.removeprefix("checkpoint-"))
        self._reported, self._began = self._loader.start, time.monotonic()
        self.train(resume_from_checkpoint=None if resume is None else str(resume))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Ours: no pickle, and whole or not there."""
        del model, trial
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        if rank() == 0:
            checkpointing.written_whole(folder, self._write_state)
        if world_size() > 1:
            distributed.barrier()
            if rank():
                checkpointing.save_random(folder)
            distributed.barrier()
        if rank() == 0:
            checkpointing.prune(Path(self.args.output_dir), self._config.run.keep)

    def _write_state(self, folder: Path) -> None:
        checkpointing.save_weights(folder, self.loss)
        checkpointing.save_optimizer(folder, self.optimizer, self.lr_scheduler)
        checkpointing.save_random(folder)
        self.state.save_to_json(str(folder / _STATE))
        if self._config.run.export_every:
            (folder / "model").mkdir()
            self._export(folder / "model")

    def _load_from_checkpoint(self, checkpoint_path: str, model: Any = None) -> None:
        del model
        checkpointing.load_weights(Path(checkpoint_path), self.loss)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            checkpointing.load_optimizer(Path(checkpoint), self.optimizer, self.lr_scheduler)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            checkpointing.load_random(Path(checkpoint))
