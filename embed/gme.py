"""`gme`: GME-Qwen2-VL (arXiv 2412.16855).

A chat of a system message, the instruction, and a user message, the content in its order, closed by a token of its own,
whose state is the vector:

    <|im_start|>system
    You are a helpful assistant.<|im_end|>
    <|im_start|>user
    <|vision_start|><|image_pad|><|vision_end|>A cat and a dog<|im_end|>
    <|im_start|>assistant
    <|endoftext|>

Only queries have an instruction of their own. A picture is resized twice, once within wide limits and once within
narrow ones, and its tokens get plain positions 0, 1, 2 ... although it has its marks around it; both are the
original's ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from mmseek._types import Content, EncodeRequest, Image, Text
from mmseek.embed.engine import EngineOptions
from mmseek.embed.qwen_vl import IMAGE_TOKEN, QwenVLEncoder, engine_options, load_checkpoint
from mmseek.errors import InputError
from mmseek.media import MediaLimits
from mmseek.models.qwen_vl_inputs import PixelRange, flat_positions, resized
from mmseek.models.spec import Spec, absolute

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image
    from numpy.typing import NDArray

__all__ = ["DEFAULT_INSTRUCTION", "FIRST_PIXELS", "PIXELS", "RECIPE_VERSION", "GmeEncoder", "load"]

# To be raised by any change that gives other vectors from the same weights.
RECIPE_VERSION: Final = 1
DEFAULT_INSTRUCTION: Final = "You are a helpful assistant."
FIRST_PIXELS: Final = PixelRange(28 * 28 * 4, 28 * 28 * 16384)
PIXELS: Final = PixelRange(28 * 28 * 256, 28 * 28 * 1280)
MAX_TOKENS: Final = 1800
_MODELS: Final = {"qwen2_vl": "Qwen2VLForConditionalGeneration"}


class GmeEncoder(QwenVLEncoder):
    """GME-Qwen2-VL. A document's instruction is not used."""

    max_tokens = MAX_TOKENS

    def prompt(self, request: EncodeRequest) -> str:
        """See `render`."""
        if request.content.is_empty:
            raise InputError("an item has neither text nor image: give at least one")
        return render(request.content, request.instruction if request.role == "query" else None)

    def resize(self, picture: PIL.Image.Image, image: Image) -> PIL.Image.Image:
        """Within 3136 to 12845056 pixels and then within 200704 to 1003520, sides multiples of 28."""
        factor = self._checkpoint.factor
        return resized(resized(picture, factor, FIRST_PIXELS, image), factor, PIXELS, image)

    def positions(self, is_picture: NDArray[np.bool_], grids: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
        """Flat, pictures or not."""
        del grids
        return flat_positions(len(is_picture))


def render(content: Content, instruction: str | None) -> str:
    """The chat as one string, the parts in their order."""
    picture = f"<|vision_start|>{IMAGE_TOKEN}<|vision_end|>"
    user = "".join(part.text if isinstance(part, Text) else picture for part in content.parts)
    return (
        f"<|im_start|>system\n{instruction or DEFAULT_INSTRUCTION}<|im_end|>\n"
        f"<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n<|endoftext|>"
    )


def load(spec: Spec, *, device: str | None, limits: MediaLimits, options: EngineOptions) -> GmeEncoder:
    """Load `gme:HUB_ID[@REVISION]` or `gme:FOLDER`.

    Raises:
        SpecError: the spec names no model.
        ModelError: the checkpoint is missing, of another kind or not whole.
    """
    recipe = f"gme {RECIPE_VERSION} {FIRST_PIXELS} {PIXELS} {MAX_TOKENS}"
    checkpoint = load_checkpoint(spec, device=device, models=_MODELS, recipe=recipe, max_tokens=MAX_TOKENS)
    return GmeEncoder(checkpoint, spec=absolute(spec), limits=limits, options=engine_options(options))
