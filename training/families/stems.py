"""Families that are cut in two: a stem, which may be frozen, and a head after it that is small.

What a frozen stem gives for an item never changes, so it need not be computed at every step; see
`mmseek.training.features`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from mmseek.embed.base import EngineEncoder
from mmseek.embed.batching import Budget
from mmseek.training.families.base import OneVector

if TYPE_CHECKING:
    from mmseek._types import FloatArray

__all__ = ["Kept", "Stemmed"]


@dataclass(frozen=True, slots=True, eq=False)
class Kept:
    """What a frozen stem gave for a unit, (width,) float32, in place of the unit's payload."""

    stem: FloatArray


class Stemmed(OneVector):
    """A family with stem and head. `rows` is the head of the stem, of payloads as of what was kept."""

    @abstractmethod
    def stem_state(self) -> Mapping[str, Mapping[str, Tensor]]:
        """By kind, all weights and buffers of `inner` that its stem has; none where it is never trained."""

    @abstractmethod
    def stem(self, kind: str, payloads: Sequence[Any]) -> Tensor:
        """(n, width), what the head needs to know of each."""

    @abstractmethod
    def head(self, kind: str, stems: Tensor) -> Tensor:
        """As `rows`, of what the stem gave."""

    @property
    def budgets(self) -> Mapping[str, Budget]:
        """How much of each kind goes through the stem at once."""
        assert isinstance(self.encoder, EngineEncoder)
        return self.encoder.budgets

    def frozen_kinds(self) -> tuple[str, ...]:
        """The kinds whose stem is not trained."""
        states = self.stem_state().items()
        return tuple(kind for kind, state in states if not any(each.requires_grad for each in state.values()))

    def rows(self, kind: str, payloads: Sequence[Any]) -> Tensor:
        """(n, d)."""
        kept = [place for place, payload in enumerate(payloads) if isinstance(payload, Kept)]
        if not kept:
            return self.head(kind, self.stem(kind, payloads))
        stems = torch.from_numpy(np.stack([payloads[place].stem for place in kept]))
        stems = stems.to(next(self.inner.parameters()).device)
        others = [place for place, payload in enumerate(payloads) if not isinstance(payload, Kept)]
        if others:
            found = self.stem(kind, [payloads[place] for place in others])
            order = torch.tensor([*kept, *others], device=stems.device).argsort()
            stems = torch.cat([stems, found.to(stems.dtype)])[order]
        return self.head(kind, stems)
