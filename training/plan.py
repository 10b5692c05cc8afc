"""What a run would be, before it starts: sizes, steps, and how much memory it will take."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mmseek.errors import MmseekError
from mmseek.training.batches import Loader, make_chunks
from mmseek.training.gathering import world_size

if TYPE_CHECKING:
    from mmseek.training.base_run import BaseRun
    from mmseek.training.families.base import Prepared, Trainable
    from mmseek.training.run import Run

__all__ = ["Plan", "SourcePlan", "plan", "planned_sources"]


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """A source: its usable and unusable rows, its share of the draws, and how often the run goes through it."""

    name: str
    rows: int
    bad: int
    share: float
    epochs: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The run in numbers; memory in bytes, for one process.

    `memory` is weights, gradients, optimiser and activations. The last are measured: the graph of the first batch's
    costliest item of each kind, scaled to the costliest chunk. What the device needs besides is not counted.
    """

    encoder: str
    dim: int
    parameters: int
    trained: int
    steps: int
    batch: int
    processes: int
    chunks: int
    negatives: int
    sources: tuple[SourcePlan, ...]
    memory: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """As `mmseek train --dry-run --json` prints it."""
        return asdict(self) | {"memory_total": sum(self.memory.values())}


def plan(run: Run) -> Plan:
    """Open the sources, load the model, prepare the first batch and count. Nothing is written.

    Raises:
        MmseekError: whatever would stop the run at its start.
    """
    config, sources, trainable = run.config, run.sources, run.trainable
    loader = Loader(
        run.batches(world=world_size()),
        sources,
        trainable.prepare,
        negatives=config.data.negatives,
        steps=1,
        workers=config.run.workers,
        skip_bad_rows=config.data.skip_bad_rows,
    )
    items = next(iter(loader)).items
    chunks = make_chunks(items, config.batch)
    return Plan(
        encoder=trainable.spec,
        dim=trainable.dim,
        parameters=sum(p.numel() for p in trainable.inner.parameters()),
        trained=sum(p.numel() for p in trainable.inner.parameters() if p.requires_grad),
        steps=run.steps,
        batch=config.batch.size,
        processes=world_size(),
        chunks=len(chunks),
        negatives=config.data.negatives,
        sources=planned_sources(run),
        memory=_memory(trainable, items, chunks),
    )


def planned_sources(run: BaseRun[Any]) -> tuple[SourcePlan, ...]:
    """What the run makes of each source."""
    total = run.steps * run.config.batch.size
    return tuple(
        SourcePlan(source.name, len(source), len(source.bad), round(share, 4), round(total * share / len(source), 3))
        for source, share in zip(run.sources, run.weights, strict=True)
    )


def _memory(trainable: Trainable, items: tuple[Prepared, ...], chunks: list[list[int]]) -> dict[str, int]:
    parameters = list(trainable.inner.parameters())
    trained = sum(p.numel() * 4 for p in parameters if p.requires_grad)
    costs = [max(sum(unit.cost for unit in item), 1) for item in items]
    kinds = [tuple(sorted({unit.kind for unit in item})) for item in items]
    a_cost: dict[tuple[str, ...], float] = {}
    for kind in set(kinds):
        costliest = max((place for place in range(len(items)) if kinds[place] == kind), key=costs.__getitem__)
        a_cost[kind] = _graph_bytes(trainable, items[costliest]) / costs[costliest]
    return {
        "weights": sum(p.numel() * p.element_size() for p in parameters),
        "gradients": trained,
        "optimizer": 2 * trained,
        "activations": round(max(sum(a_cost[kinds[place]] * costs[place] for place in chunk) for chunk in chunks)),
    }


def _graph_bytes(trainable: Trainable, item: Prepared) -> int:
    """What one item's graph keeps for the backward pass, weights left out."""
    import torch

    weights = {p.data_ptr() for p in trainable.inner.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    trainable.inner.train()
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            graph = trainable.vectors([item])
    except RuntimeError as error:
        raise MmseekError(
            f"the model fails on the first batch ({error}): check the data and the configuration"
        ) from error
    del graph
    return sum(kept.values())
