"""Tensors of all processes in one, with gradients that find their way home."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn import functional as F  # noqa: N812 - torch's own convention

__all__ = ["average_gradients", "gathered", "own_device", "rank", "together", "world_size"]


@contextmanager
def together(device: str | None) -> Iterator[None]:
    """Inside, the processes that torchrun started are one group; alone, nothing happens.

    Args:
        device: as in `run.device`; on a CPU the group is gloo's.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or distributed.is_initialized():
        yield
        return
    on_cpu = device == "cpu" or not torch.cuda.is_available()
    distributed.init_process_group("gloo" if on_cpu else "nccl")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def own_device(device: str | None) -> str | None:
    """The device of this process: each of several has an accelerator of its own, unless one is named."""
    if device is None and int(os.environ.get("WORLD_SIZE", "1")) > 1 and torch.cuda.is_available():
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return device


def world_size() -> int:
    """How many processes train together; 1 without a group."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return distributed.get_rank() if world_size() > 1 else 0


class _Gather(torch.autograd.Function):
    """All rows of all processes, in the order of their ranks. The gradient of a row is the sum over all who used it."""

    @staticmethod
    def forward(context: Any, rows: Tensor) -> Tensor:
        context.rows = len(rows)
        parts = [torch.empty_like(rows) for _ in range(world_size())]
        distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        whole = gradients[0].contiguous().clone()
        distributed.all_reduce(whole)  # every backend has it; gloo lacks the scatter that would be enough
        start = rank() * context.rows
        return whole[start : start + context.rows]


def gathered(rows: Tensor) -> Tensor:
    """Rows of all processes, each of which has as many: (world * n, ...).

    Of three dimensions, the second may differ, and is filled up with zeros.
    """
    if world_size() == 1:
        return rows
    if rows.ndim == 3:
        longest = torch.tensor(rows.shape[1], device=rows.device)
        distributed.all_reduce(longest, distributed.ReduceOp.MAX)
        rows = F.pad(rows, (0, 0, 0, int(longest) - rows.shape[1]))
    found: Tensor = _Gather.apply(rows) if rows.is_floating_point() else _without_gradient(rows)
    return found


def _without_gradient(rows: Tensor) -> Tensor:
    wide = rows.to(torch.uint8) if rows.dtype == torch.bool else rows
    parts = [torch.empty_like(wide) for _ in range(world_size())]
    distributed.all_gather(parts, wide.contiguous())
    return torch.cat(parts).to(rows.dtype)


def average_gradients(parameters: list[torch.nn.Parameter]) -> None:
    """The mean over the processes, in place. A loss that is a mean over each one's rows gives the whole batch's."""
    if world_size() == 1:
        return
    held = [parameter for parameter in parameters if parameter.requires_grad]
    flat = torch.cat([(p.grad if p.grad is not None else torch.zeros_like(p)).reshape(-1).float() for p in held])
    distributed.all_reduce(flat)
    flat /= world_size()
    for parameter, part in zip(held, torch.split(flat, [p.numel() for p in held]), strict=True):
        parameter.grad = part.view_as(parameter).to(parameter.dtype)
