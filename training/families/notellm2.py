"""`notellm2`: a note's vector and that of its picture, both of which NoteLLM-2 is trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from mmseek.embed.base import EngineEncoder
from mmseek.embed.notellm2 import NoteLlm2Encoder
from mmseek.embed.notellm2_model import NoteModel
from mmseek.training.families.base import Prepared, Trainable, copy_beside, write_weights

__all__ = ["TrainableNoteLlm2"]


class TrainableNoteLlm2(Trainable):
    """Multimodal in-context learning and late fusion, with gradients (Zhang et al. 2024, arXiv:2405.16789)."""

    has_two_vectors: ClassVar[bool] = True

    def __init__(self, encoder: EngineEncoder) -> None:
        if not isinstance(encoder, NoteLlm2Encoder):
            raise TypeError(f"{type(encoder).__name__} is no NoteLLM-2")
        super().__init__(encoder, encoder.model)
        self._model: NoteModel = encoder.model

    def vectors(self, items: Sequence[Prepared]) -> Tensor:
        """(n, dim); with `two_vectors` (n, 2 * dim), the second half zeros where there is no picture."""
        notes = [unit.payload for (unit,) in items]
        if not self.two_vectors:
            found: Tensor = self._model(notes)
            return found
        return torch.cat(self._model.both(notes), dim=1)

    def export(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """In the layout of the authors' training code."""
        write_weights(folder, state)
        copy_beside(self.source, folder)
