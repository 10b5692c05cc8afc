"""Families on CLIP: `clip` sums normalised vectors, `uniir-clip-sf` the projections as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from mmseek.embed.base import EngineEncoder
from mmseek.embed.clip_encoder import IMAGE, TEXT, ClipTowerEncoder
from mmseek.embed.clip_tower import ClipTower
from mmseek.embed.engine import Unit
from mmseek.embed.uniir_clip import UniirClipEncoder
from mmseek.errors import ModelError
from mmseek.training.families.base import copy_beside
from mmseek.training.families.stems import Stemmed

__all__ = ["TrainableClip"]


class TrainableClip(Stemmed):
    """Both towers of a CLIP, with gradients."""

    counts: ClassVar[str] = "tokens and pictures"

    def __init__(self, encoder: EngineEncoder) -> None:
        if not isinstance(encoder, ClipTowerEncoder) or not isinstance(encoder.tower, ClipTower):
            raise ModelError(f"{encoder.identity.spec} is no CLIP in transformers' layout, and only that is trained")
        super().__init__(encoder, encoder.tower.model)
        self._tower: ClipTower = encoder.tower
        self._fused = isinstance(encoder, UniirClipEncoder)
        # The loss has a temperature of its own.
        self.inner.get_parameter("logit_scale").requires_grad = False

    def stem_state(self) -> Mapping[str, Mapping[str, Tensor]]:
        """Each tower without its projection."""
        towers = {TEXT: self._tower.model.text_model, IMAGE: self._tower.model.vision_model}
        return {kind: {**dict(each.named_parameters()), **dict(each.named_buffers())} for kind, each in towers.items()}

    def stem(self, kind: str, payloads: Sequence[Any]) -> Tensor:
        """What the tower gives: (n, width)."""
        return self._tower.pooled_texts(payloads) if kind == TEXT else self._tower.pooled_images(payloads)

    def head(self, kind: str, stems: Tensor) -> Tensor:
        """Projected, not normalised: (n, dim)."""
        return self._tower.projected_texts(stems) if kind == TEXT else self._tower.projected_images(stems)

    def joined(self, units: Sequence[Unit], rows: Sequence[Tensor]) -> Tensor:
        """As the encoder's `combine`."""
        total = torch.zeros_like(rows[0])
        for kind in (TEXT, IMAGE):
            chosen = [row for unit, row in zip(units, rows, strict=True) if unit.kind == kind]
            if chosen and self._fused:
                total = total + torch.stack(chosen).mean(dim=0)
            elif chosen:
                whole = torch.stack([F.normalize(row, dim=0) for row in chosen]).sum(dim=0)
                total = total + F.normalize(whole, dim=0)
        return total

    def export(self, folder: Path, state: Mapping[str, Tensor]) -> None:
        """In the layout of transformers, whatever the layout was."""
        source = self.source
        if (source / "open_clip_config.json").is_file() and not self._fused:
            raise ModelError(
                f"{source} is in open_clip's layout, which is not written: convert it to transformers' first"
            )
        model: Any = self.inner
        model.save_pretrained(folder, state_dict=dict(state))
        copy_beside(source, folder)
