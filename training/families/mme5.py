"""`mme5`: Llama 3.2 Vision, the state of the last token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from mmseek.embed.base import EngineEncoder
from mmseek.embed.mme5 import MmE5Encoder
from mmseek.training.families.base import Sequences, copy_beside

__all__ = ["TrainableMmE5"]


class TrainableMmE5(Sequences):
    """Vectors of the last token's state, with gradients; texts and pictures apart, as in encoding."""

    counts: ClassVar[str] = "tokens and patches"

    def __init__(self, encoder: EngineEncoder) -> None:
        if not isinstance(encoder, MmE5Encoder):
            raise TypeError(f"{type(encoder).__name__} is no mmE5")
        super().__init__(encoder, encoder.model)
        self._mme5 = encoder

    def rows(self, kind: str, payloads: Sequence[Any]) -> Tensor:
        """(n, dim), L2-normalised."""
        return self._mme5.embedded(kind, payloads)

    def export(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """In the layout of transformers."""
        model: Any = self.inner
        model.save_pretrained(folder, state_dict=dict(state))
        copy_beside(self.source, folder)
