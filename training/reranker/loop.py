"""The steps of a reranker's training: pairs in chunks, gradients of the whole batch, checkpoints to go on from."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import get_scheduler

from mmseek.errors import ModelError
from mmseek.training import checkpointing
from mmseek.training.batches import chunks_by_cost
from mmseek.training.logs import StepReport
from mmseek.training.reranker.model import TrainableReranker, answer_loss

if TYPE_CHECKING:
    from mmseek.training.reranker.pairs import Labelled, PairLoader
    from mmseek.training.reranker.settings import RerankerConfig

__all__ = ["backward", "train"]


def backward(trainable: TrainableReranker, pairs: Sequence[Labelled], config: RerankerConfig) -> float:
    """Add the gradients of `answer_loss` over all pairs, a chunk at a time. Returns the loss."""
    device = trainable.reranker.backbone.device
    total = 0.0
    for chunk in chunks_by_cost([pair.cost for pair, _ in pairs], config.batch):
        chosen = [pairs[place] for place in chunk]
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=config.run.precision == "bf16"):
            logits = trainable.logits([pair for pair, _ in chosen])
        loss = answer_loss(logits, torch.tensor([relevant for _, relevant in chosen], device=logits.device))
        loss = loss * (len(chunk) / len(pairs))
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        total += float(loss.detach())
    return total


def train(
    trainable: TrainableReranker, config: RerankerConfig, loader: PairLoader, resume: Path | None
) -> Iterator[StepReport]:
    """Train step by step; each step is told after it is done, and after its checkpoint.

    Raises:
        ModelError: the loss is no longer a number, or the checkpoint is of another model.
        DatasetError: a row cannot be used.
    """
    module, rates, steps, output = trainable.module, config.optimizer, len(loader), Path(config.run.output).expanduser()
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(
        weights, lr=rates.rate, betas=(rates.betas[0], rates.betas[1]), eps=rates.eps, weight_decay=rates.weight_decay
    )
    kind = "constant_with_warmup" if config.schedule.kind == "constant" else config.schedule.kind
    scheduler = get_scheduler(kind, optimizer, config.schedule.warmup, steps)
    torch.manual_seed(config.run.seed)
    if resume is not None:
        checkpointing.load_weights(resume, module)
        checkpointing.load_optimizer(resume, optimizer, scheduler)
        checkpointing.load_random(resume)
    began = time.monotonic()
    module.train()
    for step, pairs in enumerate(loader, start=loader.start + 1):
        loss = backward(trainable, pairs, config)
        if not math.isfinite(loss):
            raise ModelError(
                f"the loss of step {step} is {loss}: lower optimizer.rate, warm up longer, or train with "
                "run.precision=fp32; the last checkpoint is kept"
            )
        norm = float(torch.nn.utils.clip_grad_norm_(weights, rates.clip or math.inf))
        rate = scheduler.get_last_lr()[0]
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        if step == steps or (config.run.save_every and step % config.run.save_every == 0):

            def write(folder: Path) -> None:
                checkpointing.save_weights(folder, module)
                checkpointing.save_optimizer(folder, optimizer, scheduler)
                checkpointing.save_random(folder)

            checkpointing.written_whole(output / f"checkpoint-{step}", write)
            checkpointing.prune(output, config.run.keep)
        pace = (step - loader.start) / max(time.monotonic() - began, 1e-9)
        yield StepReport(step, steps, loss, norm, rate, pace * config.batch.size, (steps - step) / pace)
