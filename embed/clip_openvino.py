"""A CLIP whose two towers OpenVINO runs: the same tokens and pixels as `ClipTower`, and its vectors within 1e-4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import nn

from mmseek.embed.clip_tower import ClipTower
from mmseek.errors import ModelError
from mmseek.media import MediaLimits
from mmseek.models.openvino import BUCKET, Compiled, bucketed, compiled

if TYPE_CHECKING:
    from mmseek._types import FloatArray, Image
    from mmseek.embed.clip_pictures import Pixels

__all__ = ["OpenVinoClipTower", "openvino_tower"]

# To be raised by any change of the two modules below: what was converted before is then converted anew.
_VERSION: Final = 1


class _Texts(nn.Module):
    """Token numbers (n, length), padded on the right, to projected vectors (n, dim)."""

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.model, self.projection = clip.text_model, clip.text_projection

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = self.projection(self.model(input_ids=numbers).pooler_output)
        return rows


class _Pictures(nn.Module):
    """uint8 (n, S, S, 3) to projected vectors (n, dim)."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, clip: Any, mean: torch.Tensor, std: torch.Tensor) -> None:
        super().__init__()
        self.model, self.projection = clip.vision_model, clip.visual_projection
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        pixels = (pictures.permute(0, 3, 1, 2).float() / 255 - self.mean) / self.std
        rows: torch.Tensor = self.projection(self.model(pixel_values=pixels).pooler_output)
        return rows


class OpenVinoClipTower:
    """See `mmseek.embed.clip_encoder.Tower`. Safe to use from several threads.

    Args:
        inner: tokenises and prepares; its weights are let go.
        texts, pictures: the two towers.
    """

    def __init__(self, inner: ClipTower, texts: Compiled, pictures: Compiled) -> None:
        self._inner = inner
        self._texts = texts
        self._pictures = pictures
        self.dim = inner.dim
        self._length: int = inner.model.config.text_config.max_position_embeddings
        inner.model.to("meta")

    def tokenize(self, text: str) -> list[int]:
        """See `ClipTower.tokenize`."""
        return self._inner.tokenize(text)

    def prepare(self, image: Image, limits: MediaLimits) -> Pixels:
        """See `ClipTower.prepare`."""
        return self._inner.prepare(image, limits)

    def texts(self, texts: Sequence[Sequence[int]]) -> FloatArray:
        """Projected, not normalised vectors (n, dim) of tokenised texts."""
        # The text tower looks back only, so padding with any number changes nothing, and no mask is needed.
        return self._texts(bucketed(texts, padding=0, longest=self._length)[0])

    def images(self, pictures: Sequence[Pixels]) -> FloatArray:
        """Projected, not normalised vectors (n, dim) of prepared pictures."""
        return self._pictures(np.stack(pictures))


def openvino_tower(tower: Any, *, fingerprint: str, lanes: int) -> OpenVinoClipTower:
    """The tower, run by OpenVINO.

    Args:
        tower: a `ClipTower`.
        fingerprint: of its checkpoint.
        lanes: batches that run at once.

    Raises:
        ModelError: OpenVINO cannot run it.
    """
    if not isinstance(tower, ClipTower):
        raise ModelError("this CLIP is run by open_clip's package, not by OpenVINO: leave out the backend openvino")
    clip, side = tower.model, tower.model.config.vision_config.image_size
    texts = compiled(
        lambda: _Texts(clip),
        # The marks of a text stand in it, so that what the model looks for is found.
        lambda: [torch.tensor(bucketed([tower.tokenize("a"), tower.tokenize("a b")], padding=0, longest=BUCKET)[0])],
        [(-1, -1)],
        fingerprint=fingerprint,
        part=f"clip texts {_VERSION}",
        lanes=lanes,
    )
    pictures = compiled(
        lambda: _Pictures(clip, *tower.colours),
        lambda: [torch.zeros(2, side, side, 3, dtype=torch.uint8)],
        [(-1, side, side, 3)],
        fingerprint=fingerprint,
        part=f"clip pictures {_VERSION}",
        lanes=lanes,
    )
    return OpenVinoClipTower(tower, texts, pictures)
