"""`clip:MODEL`, any CLIP in the layout of transformers, or of OpenAI's code: texts and pictures in one space.

A text alone and a picture alone have the vectors that CLIP itself gives, normalised. CLIP was not trained for both
together; their vector is

    normalise(t / |t| + i / |i|)

with `i` the mean of the pictures' normalised vectors if there are several. Texts of one content are joined by line
breaks and cut after 77 tokens, the mark of the end kept. Query and document are encoded alike and instructions are not
used, for CLIP follows none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from mmseek._types import EncodeRequest
from mmseek.embed.clip_encoder import IMAGE, TEXT, ClipTowerEncoder
from mmseek.embed.engine import EngineOptions, Unit
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
    """Load `clip:MODEL`; errors as in `ClipTowerEncoder.load`."""
    return ClipEncoder.load(spec, device=device, limits=limits, options=options)
