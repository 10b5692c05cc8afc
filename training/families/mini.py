"""`mini`: its image tower, a million parameters, among the vectors of the text tower, which stays as it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from mmseek._types import EncodeRequest
from mmseek.embed.base import EngineEncoder
from mmseek.embed.engine import Unit
from mmseek.embed.mini.encoder import IMAGE_WEIGHT, TEXT_WEIGHT, MiniEncoder
from mmseek.embed.mini.pictures import TOWER_FILE
from mmseek.embed.mini.tower import FORMAT_VERSION, ImageTower
from mmseek.training.families.base import Prepared
from mmseek.training.families.stems import Stemmed

__all__ = ["TrainableMini"]

_TEXT, _IMAGE = "text", "image"
# What comes after the tower and sees nothing but what it gives.
_HEADS: Final = ("correction.", "fusion.")


class _Query(tuple[Unit, ...]):
    """The units of a query."""


class TrainableMini(Stemmed):
    """The image tower with gradients; texts without."""

    counts: ClassVar[str] = "tokens and pictures"

    def __init__(self, encoder: EngineEncoder) -> None:
        if not isinstance(encoder, MiniEncoder) or not isinstance(encoder.pictures.module, ImageTower):
            raise TypeError(f"{type(encoder).__name__} is not mini with its image tower")
        super().__init__(encoder, encoder.pictures.module)
        self._mini = encoder

    @property
    def _tower(self) -> ImageTower:
        tower = self.inner
        assert isinstance(tower, ImageTower)
        return tower

    def prepare(self, request: EncodeRequest) -> Prepared:
        """As the encoder's; the units of a query are marked, since picture and text are joined otherwise there."""
        units = super().prepare(request)
        return _Query(units) if request.role == "query" else units

    def stem_state(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Of texts nothing is ever trained; of pictures what comes before the correction."""
        state = {**dict(self.inner.named_parameters()), **dict(self.inner.named_buffers())}
        return {_TEXT: {}, _IMAGE: {name: each for name, each in state.items() if not name.startswith(_HEADS)}}

    def stem(self, kind: str, payloads: Sequence[Any]) -> Tensor:
        """Of texts their vectors; of pictures what the tower says before the correction."""
        device = next(self.inner.parameters()).device
        if kind == _TEXT:
            order = sorted(range(len(payloads)), key=lambda place: len(payloads[place]))
            rows = np.empty((len(payloads), self.dim), dtype=np.float32)
            rows[order] = self._mini.text_vectors([payloads[place] for place in order])
            return torch.from_numpy(rows).to(device)
        return self._tower.look(torch.from_numpy(np.stack(payloads)).to(device))

    def head(self, kind: str, stems: Tensor) -> Tensor:
        """(n, 384), L2-normalised."""
        return stems if kind == _TEXT else self._tower.finish(stems)

    def joined(self, units: Sequence[Unit], rows: Sequence[Tensor]) -> Tensor:
        """As the encoder's `combine`."""
        if len(units) == 1:
            return rows[0]
        means = {}
        for kind in (_TEXT, _IMAGE):
            chosen = [row * unit.cost for unit, row in zip(units, rows, strict=True) if unit.kind == kind]
            if chosen:
                means[kind] = F.normalize(torch.stack(chosen).sum(dim=0), dim=0)
        if isinstance(units, _Query) and len(means) == len((_TEXT, _IMAGE)):
            return self._tower.compose(means[_IMAGE][None], means[_TEXT][None])[0]
        weights = {_TEXT: TEXT_WEIGHT, _IMAGE: IMAGE_WEIGHT}
        return torch.stack([weights[kind] * mean for kind, mean in means.items()]).sum(dim=0)

    def export(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """The image tower in float32; the text tower is found where it was."""
        config = json.dumps(asdict(self._tower.config))
        header = {"version": str(FORMAT_VERSION), "config": config, "made_by": "mmseek train"}
        tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
        save_file(tensors, folder / TOWER_FILE.name, metadata=header)
