"""Families on Qwen's vision-language models: one sequence a content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from mmseek.embed.base import EngineEncoder
from mmseek.embed.engine import Unit
from mmseek.embed.qwen_vl import QwenVLEncoder
from mmseek.models.checkpoints import find_folder
from mmseek.models.spec import parse_spec
from mmseek.training.families.base import Trainable, copy_beside

__all__ = ["TrainableQwenVL"]


class TrainableQwenVL(Trainable):
    """Vectors of the last token's state, with gradients."""

    def __init__(self, encoder: EngineEncoder) -> None:
        if not isinstance(encoder, QwenVLEncoder):
            raise TypeError(f"{type(encoder).__name__} is no encoder on Qwen's models")
        super().__init__(encoder, encoder.checkpoint.model)
        self._qwen = encoder

    def rows(self, kind: str, payloads: Sequence[Any]) -> Tensor:
        """(n, dim), L2-normalised."""
        del kind
        return self._qwen.embedded(payloads)

    def joined(self, units: Sequence[Unit], rows: Sequence[Tensor]) -> Tensor:
        """The only unit's."""
        del units
        return rows[0]

    def export(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """In the layout of transformers."""
        model: Any = self.inner
        model.save_pretrained(folder, state_dict=dict(state))
        copy_beside(find_folder(parse_spec(self.spec, [self.family])), folder)
