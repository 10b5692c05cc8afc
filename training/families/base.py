"""What the trainer asks of an encoder: requests in, vectors with gradients out, a folder that `embed` loads."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from mmseek._types import EncodeRequest
from mmseek.embed.base import EngineEncoder
from mmseek.embed.engine import Unit
from mmseek.embed.instructions import resolve_instruction
from mmseek.embed.multi_vector import EngineTokenEncoder
from mmseek.models.checkpoints import find_folder
from mmseek.models.spec import parse_spec

__all__ = ["OneVector", "Prepared", "Sequences", "Trainable", "copy_beside", "write_weights"]

Prepared = tuple[Unit, ...]
"""A request after tokenising and decoding, as `EngineEncoder.prepare` gives it."""

_BESIDE: Final = ("*.json", "*.txt", "*.jinja", "*.model")


class Trainable(nn.Module, ABC):
    """An encoder as a module. Preparing is the encoder's own, so training sees what encoding sees.

    `two_vectors` asks for a picture's own vector beside each item's; families without one have no such thing.

    Args:
        encoder: a loaded encoder; its weights are trained in place.
        inner: the module that holds them.
    """

    counts: ClassVar[str] = "tokens"
    """What `Unit.cost` counts in this family, for messages."""

    late: ClassVar[bool] = False
    """Whether an item has a vector for each token, and scores are MaxSim."""
    has_two_vectors: ClassVar[bool] = False

    def __init__(self, encoder: EngineEncoder | EngineTokenEncoder, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner.requires_grad_(requires_grad=True)
        # Not a module, so torch leaves it alone.
        self.encoder = encoder
        self.two_vectors = False

    @property
    def spec(self) -> str:
        return self.encoder.identity.spec

    @property
    def dim(self) -> int:
        return self.encoder.identity.dim

    def prepare(self, request: EncodeRequest) -> Prepared:
        """The CPU's part. Safe in threads.

        Raises:
            MmseekError: the request cannot be encoded.
        """
        if request.instruction is not None:
            request = replace(request, instruction=resolve_instruction(request.instruction))
        recipe = self.encoder.recipe if isinstance(self.encoder, EngineTokenEncoder) else self.encoder
        return tuple(recipe.prepare(request))

    @abstractmethod
    def vectors(self, items: Sequence[Prepared]) -> Tensor:
        """Vectors (n, dim), L2-normalised, float32, with a graph where gradients are enabled.

        Where `late` is true, (n, tokens, dim), filled up with zeros; with `two_vectors`, (n, 2 * dim).
        """

    def forward(self, features: Any) -> Any:
        """Never used: `vectors` is. It is here because sentence-transformers wants modules of its own form."""
        return features

    @abstractmethod
    def export(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """Write a checkpoint that `spec_of(folder)` loads.

        Args:
            folder: exists and is empty.
            state: of `inner`, adapters merged in.
        """

    @property
    def family(self) -> str:
        return self.spec.partition(":")[0]

    @property
    def source(self) -> Path:
        """The folder of the checkpoint that the training began with."""
        return find_folder(parse_spec(self.spec, [self.family]))

    def gradient_checkpointing(self) -> bool:
        """Switch it on; whether the family can."""
        if _switched(self.inner):
            return True
        # Of a model that was put together, in the parts that can.
        able = [_switched(part) for part in self.inner.children()]
        return any(able)


def _switched(module: nn.Module) -> bool:
    if not getattr(module, "supports_gradient_checkpointing", True):
        return False
    # Transformers gave it another name on the way.
    for name, key in (("activation", "activation_checkpointing"), ("gradient", "gradient_checkpointing")):
        switch = getattr(module, f"{name}_checkpointing_enable", None)
        if switch is not None:
            switch(**{f"{key}_kwargs": {"use_reentrant": False}})
            return True
    return False


class OneVector(Trainable):
    """A family whose items are made of the vectors of their parts."""

    def vectors(self, items: Sequence[Prepared]) -> Tensor:
        """Vectors (n, dim), L2-normalised, float32, with a graph where gradients are enabled."""
        kinds: dict[str, list[tuple[int, int]]] = {}
        for place, units in enumerate(items):
            for number, unit in enumerate(units):
                kinds.setdefault(unit.kind, []).append((place, number))
        found: dict[tuple[int, int], Tensor] = {}
        for kind, places in kinds.items():
            rows = self.rows(kind, [items[place][number].payload for place, number in places])
            found.update(zip(places, rows.float(), strict=True))
        joined = [self.joined(units, [found[p, n] for n in range(len(units))]) for p, units in enumerate(items)]
        return F.normalize(torch.stack(joined), dim=1)

    @abstractmethod
    def rows(self, kind: str, payloads: Sequence[Any]) -> Tensor:
        """As `Recipe.forward`, with gradients: (n, d)."""

    @abstractmethod
    def joined(self, units: Sequence[Unit], rows: Sequence[Tensor]) -> Tensor:
        """As `Recipe.combine`, with gradients: (dim,), not normalised."""


class Sequences(OneVector):
    """A family whose items are one sequence each."""

    def joined(self, units: Sequence[Unit], rows: Sequence[Tensor]) -> Tensor:
        """The only unit's."""
        del units
        return rows[0]


def write_weights(folder: Path, state: Mapping[str, Tensor]) -> None:
    """Safetensors, in several files where they are large, as the hub has them."""
    from huggingface_hub import save_torch_state_dict

    save_torch_state_dict({name: value.contiguous() for name, value in state.items()}, folder)


def copy_beside(source: Path, folder: Path) -> None:
    """Copy a checkpoint's configuration and tokenizer; what is in the folder already stays, weights are left out."""
    for pattern in _BESIDE:
        for path in sorted(source.glob(pattern)):
            target = folder / path.name
            if path.is_file() and not target.exists() and not path.name.endswith(".index.json"):
                shutil.copyfile(path, target)
