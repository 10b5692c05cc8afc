"""`bge-vl:MODEL`, BGE-VL-base and BGE-VL-large (Zhou et al. 2024, MegaPairs, arXiv:2412.14475): a CLIP trained so that

    normalise(t + i)

with `t` and `i` as the towers project them, *not* normalised, stands for a picture with a text. Query and document are
encoded alike and there is no instruction; the text of a query says what is wanted of its picture. Beyond the original:
several texts are joined by line breaks, and of several pictures `i` is the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from mmseek._types import EncodeRequest
from mmseek.embed.clip_encoder import ClipTowerEncoder, raw_sum
from mmseek.embed.engine import EngineOptions, Unit
from mmseek.media import MediaLimits
from mmseek.models.spec import Spec

if TYPE_CHECKING:
    from mmseek._types import FloatArray

__all__ = ["BgeVlEncoder", "load"]

# To be raised by any change that gives other vectors from the same weights.
_VERSION: Final = 1


class BgeVlEncoder(ClipTowerEncoder):
    """The sum of what the towers give."""

    recipe = f"bge-vl {_VERSION}"

    def render(self, request: EncodeRequest) -> str:
        """The texts as they are."""
        return request.content.text.strip()

    def combine(self, request: EncodeRequest, units: Sequence[Unit], vectors: Sequence[FloatArray]) -> FloatArray:
        """The sum that the module describes; not normalised."""
        del request
        return raw_sum(units, vectors)


def load(spec: Spec, *, device: str | None, limits: MediaLimits, options: EngineOptions) -> BgeVlEncoder:
    """Load `bge-vl:MODEL`; errors as in `ClipTowerEncoder.load`."""
    return BgeVlEncoder.load(spec, device=device, limits=limits, options=options)
