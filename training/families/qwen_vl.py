"""Families on Qwen's vision-language models: one sequence a content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from mmseek.embed.base import EngineEncoder
from mmseek.embed.qwen_vl import QwenVLEncoder
from mmseek.training.families.base import Sequences, copy_beside

__all__ = ["TrainableQwenVL"]


class TrainableQwenVL(Sequences):
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

    def export(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """In the layout of transformers."""
        model: Any = self.inner
        model.save_pretrained(folder, state_dict=dict(state))
        copy_beside(self.source, folder)
