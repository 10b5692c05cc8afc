"""The training loop: data-parallel over single-threaded processes, on a schedule of minutes that always ends decayed.

One process for each core, each on its own share of a batch, is steadier than threads in one process where other
programs use the machine too: threads wait for each other at every operation, processes once a step.
"""

import copy
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from mmseek.embed.mini.tower import ImageTower
from mmseek.training.mini.crops import CropSet
from mmseek.training.mini.fresh import Fresh, draw
from mmseek.training.mini.losses import Batch, Objective

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast. `minutes` or `steps`, whichever comes first, ends the run; 0 means no limit of that kind.

    The picture's size grows at the shares of the run in `sizes`; the learning rate warms up, stays, and falls linearly
    to zero over the last `decay` of the run.
    """

    minutes: float = 55
    steps: int = 0
    batch: int = 96
    rate: float = 1.5e-3
    weight_decay: float = 0.05
    warmup_steps: int = 150
    decay: float = 0.35
    average: float = 0.997
    sizes: tuple[tuple[float, int], ...] = ((0.0, 80), (0.45, 96), (0.8, 112))
    report_seconds: float = 120
    seed: int = 0
    fresh: int = 0  # crops of captioned pictures that are added to every batch

    def size(self, progress: float) -> int:
        """The picture's side at a share of the run."""
        return max((start, size) for start, size in self.sizes if start <= progress)[1]

    def rate_at(self, progress: float, step: int) -> float:
        """The learning rate at a share of the run."""
        return self.rate * min(1.0, (step + 1) / self.warmup_steps, max(0.0, 1 - progress) / self.decay)


@dataclass(slots=True)
class State:
    """Where a run stands."""

    step: int = 0
    progress: float = 0.0


def orders(captioned: Tensor, pictures: int, seed: int, left_out: Sequence[int] = ()) -> Iterator[Tensor]:
    """Endless epochs, each a random order of all pictures but those left out, with the few captioned ones twice."""
    generator = torch.Generator().manual_seed(seed)
    pool = torch.cat([torch.arange(pictures), captioned])
    pool = pool[~torch.isin(pool, torch.tensor(left_out, dtype=torch.long))]
    while True:
        yield pool[torch.randperm(len(pool), generator=generator)]


def batches(
    sets: list[CropSet], captioned: Tensor, schedule: Schedule, rank: int, world: int, left_out: Sequence[int] = ()
) -> Iterator[Batch]:
    """This process's share of every batch: a random view of each picture."""
    share = schedule.batch // world
    if len(sets[0].crops) + len(captioned) < schedule.batch:
        raise ValueError(f"{len(sets[0].crops)} pictures do not fill a batch of {schedule.batch}: use more pictures")
    rng = np.random.default_rng((schedule.seed, rank))
    for order in orders(captioned, len(sets[0].crops), schedule.seed, left_out):
        for start in range(0, len(order) - schedule.batch + 1, schedule.batch):
            # Sorted rows read the mapped files in order.
            index = order[start + rank * share : start + (rank + 1) * share].sort().values
            rows, which = index.numpy(), rng.integers(len(sets), size=share)
            yield Batch(
                torch.from_numpy(np.stack([sets[k].crops[i] for k, i in zip(which, rows, strict=True)])),
                torch.from_numpy(np.stack([sets[k].features[i] for k, i in zip(which, rows, strict=True)])).float(),
                torch.tensor([bool(sets[k].mixed[i]) for k, i in zip(which, rows, strict=True)]),
                index,
            )


def with_fresh(batch: Batch, fresh: Fresh, count: int, generator: torch.Generator) -> Batch:
    """A batch with `count` fresh crops after its own."""
    crops, rows = draw(fresh, count, generator)
    return Batch(
        torch.cat([batch.crops, crops]),
        batch.features,
        torch.cat([batch.mixed, torch.zeros(count, dtype=torch.bool)]),
        torch.cat([batch.index, rows]),
    )


def augment(crops: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Flip, change brightness and contrast a little, and resize: uint8 `(n, S, S, 3)` -> float `(n, size, size, 3)`.

    The teacher's answer hardly changes with these, so it is kept.
    """
    x = crops.permute(0, 3, 1, 2).float()
    flip = torch.rand(len(x), generator=generator) < 0.5
    x = torch.where(flip[:, None, None, None], x.flip(-1), x)
    if size != x.shape[-1]:
        x = F.interpolate(x, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    gain = 1 + 0.3 * (torch.rand(len(x), 1, 1, 1, generator=generator) - 0.5)
    shift = 40 * (torch.rand(len(x), 1, 1, 1, generator=generator) - 0.5)
    return (x * gain + shift).clamp(0, 255).permute(0, 2, 3, 1)


def reduce_gradients(parameters: list[torch.nn.Parameter], progress: float, rank: int, world: int) -> float:
    """Average the gradients over the processes, clip them, and hand everyone process 0's progress."""
    flat = torch.cat([p.grad.reshape(-1) if p.grad is not None else p.new_zeros(p.numel()) for p in parameters])
    flat = torch.cat([flat / world, flat.new_tensor([progress if rank == 0 else 0.0])])
    if world > 1:
        distributed.all_reduce(flat)
    shared = float(flat[-1])
    flat = flat[:-1] * min(1.0, 5.0 / (float(flat[:-1].norm()) + 1e-6))
    for p, part in zip(parameters, torch.split(flat, [p.numel() for p in parameters]), strict=True):
        p.grad = part.view_as(p)
    return shared


def average_into(average: ImageTower, tower: ImageTower, decay: float) -> None:
    """Move the averaged tower's weights and batch statistics towards the trained one's."""
    with torch.no_grad():
        for kept, new in zip(average.state_dict().values(), tower.state_dict().values(), strict=True):
            if kept.dtype.is_floating_point:
                kept.lerp_(new, 1 - decay)
            else:
                kept.copy_(new)


def optimiser(objective: Objective, schedule: Schedule) -> torch.optim.Optimizer:
    """AdamW; norms and biases do not decay."""
    parameters = list(objective.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": schedule.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=schedule.rate, betas=(0.9, 0.99), foreach=True)


def save_state(path: Path, tower: ImageTower, state: State) -> None:
    """Write a checkpoint of the averaged tower; a reader never sees half a file."""
    part = path.with_suffix(".part")
    tensors = {name: value.contiguous() for name, value in tower.state_dict().items()}
    save_file(tensors, part, metadata={"step": str(state.step), "progress": f"{state.progress:.4f}"})
    part.replace(path)


def load_state(path: Path, tower: ImageTower) -> None:
    """Read a checkpoint into a tower."""
    tower.load_state_dict(load_file(path))


def run(
    objective: Objective,
    sets: list[CropSet],
    captioned: Tensor,
    schedule: Schedule,
    report: Callable[[ImageTower, State, dict[str, float]], None],
    rank: int = 0,
    world: int = 1,
    fresh: Fresh | None = None,
    left_out: Sequence[int] = (),
) -> tuple[ImageTower, State]:
    """Train to the end of the schedule; returns the averaged tower in eval mode. Process 0 reports."""
    tower, state, started = objective.tower, State(), time.monotonic()
    average = copy.deepcopy(tower).eval()
    optimizer = optimiser(objective, schedule)
    parameters = list(objective.parameters())
    generator = torch.Generator().manual_seed(schedule.seed * 1000 + rank)
    reported, sums = started, dict[str, float]()
    objective.train()
    for judged in batches(sets, captioned, schedule, rank, world, left_out):
        batch = judged if fresh is None else with_fresh(judged, fresh, schedule.fresh // world, generator)
        crops = augment(batch.crops, schedule.size(state.progress), generator)
        optimizer.zero_grad()
        loss, terms = objective(Batch(crops, batch.features, batch.mixed, batch.index))
        loss.backward()
        now = time.monotonic()
        shares = [(now - started) / 60 / schedule.minutes if schedule.minutes else 0.0]
        shares.append((state.step + 1) / schedule.steps if schedule.steps else 0.0)
        state.progress = reduce_gradients(parameters, max(shares), rank, world)
        for group in optimizer.param_groups:
            group["lr"] = schedule.rate_at(state.progress, state.step)
        optimizer.step()
        state.step += 1
        # Early on the average follows fast, so that it holds no random initialisation.
        average_into(average, tower, min(schedule.average, state.step / (state.step + 10)))
        sums = {name: sums.get(name, 0.0) * 0.98 + 0.02 * value for name, value in terms.items()}
        if rank == 0 and (now - reported > schedule.report_seconds or state.progress >= 1):
            reported, weight = now, 1 - 0.98**state.step
            report(average, state, {name: value / weight for name, value in sums.items()})
        if state.progress >= 1:
            break
    return average, state
