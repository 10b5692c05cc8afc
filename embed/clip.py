"""`clip:MODEL`, any CLIP in the layout of transformers, or of OpenAI's code: texts and pictures in one space.

A text alone and a picture alone have the vectors that CLIP itself gives, normalised. CLIP was not trained for both
together; their vector is

    normalise(t / |t| + i / |i|)

with `i` the mean of the pictures' normalised vectors if there are several. Texts of one content are joined by line
breaks and cut after 77 tokens, the mark of the end kept. Query and document are encoded alike and instructions are not
used, for CLIP follows none. `clip:ViT-B-32/laion2b_s34b_b79k` is a name of open_clip's, and its models of other
architectures are run by its package.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from mmseek._types import EncodeRequest
from mmseek.embed.clip_encoder import IMAGE, TEXT, ClipTowerEncoder, Tower
from mmseek.embed.engine import EngineOptions, Unit
from mmseek.embed.open_clip_tower import OpenClipTower, by_name, needs_open_clip
from mmseek.media import MediaLimits
from mmseek.models.spec import Spec

if TYPE_CHECKING:
    from mmseek._types import FloatArray

__all__ = ["ClipEncoder", "load"]

# To be raised by any change that gives other vectors from the same weights.
_VERSION: Final = 1


class ClipEncoder(ClipTowerEncoder):
    """CLIP, with the normalised sum of normalised vectors for texts with pictures."""

    recipe = f"clip {_VERSION}"

    @classmethod
    def load_tower(cls, folder: Path, *, device: str) -> Tower:
        """A plain CLIP by itself, another of open_clip's models by its package."""
        return (
            OpenClipTower.load(folder, device=device)
            if needs_open_clip(folder)
            else super().load_tower(folder, device=device)
        )

    def render(self, request: EncodeRequest) -> str:
        """The texts as they are."""
        return request.content.text.strip()

    def combine(self, request: EncodeRequest, units: Sequence[Unit], vectors: Sequence[FloatArray]) -> FloatArray:
        """The sum that the module describes; not normalised."""
        del request
        total = np.zeros(self.identity.dim)
        for kind in (TEXT, IMAGE):
            chosen = [_unit(vector) for unit, vector in zip(units, vectors, strict=True) if unit.kind == kind]
            if chosen:
                total += _unit(np.sum(chosen, axis=0))
        return total.astype(np.float32)


def _unit(vector: FloatArray) -> FloatArray:
    """To length 1; what is not a number stays so, and the engine names the item."""
    wide: FloatArray = vector / (np.linalg.norm(vector) or 1.0)
    return wide


def load(spec: Spec, *, device: str | None, limits: MediaLimits, options: EngineOptions) -> ClipEncoder:
    """Load `clip:MODEL`, or `clip:NAME/PRETRAINED` of open_clip, which then names itself by its hub id.

    Raises:
        MissingExtra: the model needs the package of open_clip.
        MmseekError: otherwise as in `ClipTowerEncoder.load`.
    """
    return ClipEncoder.load(by_name(spec), device=device, limits=limits, options=options)
