"""`bge-vl:MODEL`, BGE-VL-base and BGE-VL-large (Zhou et al. 2024, MegaPairs, arXiv:2412.14475): a CLIP trained so that

    normalise(t + i)

with `t` and `i` as the towers project them, *not* normalised, stands for a picture with a text. Query and document are
encoded alike and there is no instruction; the text of a query says what is wanted of its picture. Beyond the original:
several texts are joined by line breaks, and of several pictures `i` is the mean. BGE-VL-MLLM is in `bge_vl_mllm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from mmseek._types import EncodeRequest
from mmseek.embed.clip_encoder import ClipTowerEncoder, raw_sum
from mmseek.embed.engine import EngineOptions, Unit
from mmseek.errors import SpecError
from mmseek.media import MediaLimits
from mmseek.models.adapters import split_adapter
from mmseek.models.checkpoints import find_checkpoint, json_object
from mmseek.models.spec import Spec

if TYPE_CHECKING:
    from mmseek._types import FloatArray
    from mmseek.protocols import Encoder

__all__ = ["BgeVlEncoder", "load"]

# To be raised by any change that gives other vectors from the same weights.
_VERSION: Final = 1
_MLLM: Final = "llava_next"


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


def load(spec: Spec, *, device: str | None, limits: MediaLimits, options: EngineOptions) -> Encoder:
    """Load `bge-vl:MODEL`, a CLIP or, of the type `llava_next`, BGE-VL-MLLM; errors as in `ClipTowerEncoder.load`."""
    if json_object(find_checkpoint(split_adapter(spec)[0]) / "config.json", missing_ok=True).get("model_type") == _MLLM:
        from mmseek.embed import bge_vl_mllm

        return bge_vl_mllm.load(spec, device=device, limits=limits, options=options)
    if spec.visual_tokens is not None:
        raise SpecError("BGE-VL on CLIP gives one vector a picture: leave the amount of visual tokens out")
    return BgeVlEncoder.load(spec, device=device, limits=limits, options=options)
