"""`qwen3-vl`: Qwen3-VL-Embedding (arXiv 2601.04720).

A chat of a system message, the instruction, and a user message, the content in its order; the vector is the state of
the last token of the opened answer:

    <|im_start|>system
    Represent the user's input.<|im_end|>
    <|im_start|>user
    <|vision_start|><|image_pad|><|vision_end|>A cat and a dog<|im_end|>
    <|im_start|>assistant

The paper closes the prompt with `<|endoftext|>` and the published code does not; whether it is there is decided by the
post-processor in the checkpoint's tokenizer.json. The published code puts all pictures before all text; here the
content's own order is kept, and a content of the shorthand (`image`, `text`) has that order anyway. Vectors may be cut
to any length from 64 up.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from mmseek._types import Content, EncodeRequest, Image, Text
from mmseek.embed.engine import EngineOptions
from mmseek.embed.qwen_vl import IMAGE_TOKEN, QwenVLEncoder, engine_options, load_checkpoint
from mmseek.media import MediaLimits
from mmseek.models.qwen_vl_inputs import PixelRange, grid_positions, resized
from mmseek.models.spec import Spec, absolute

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image
    from numpy.typing import NDArray

__all__ = ["DEFAULT_INSTRUCTION", "PIXELS", "RECIPE_VERSION", "Qwen3VLEncoder", "load"]

# To be raised by any change that gives other vectors from the same weights.
RECIPE_VERSION: Final = 1
DEFAULT_INSTRUCTION: Final = "Represent the user's input."
PIXELS: Final = PixelRange(32 * 32 * 4, 32 * 32 * 1800)
MAX_TOKENS: Final = 8192
_NOTHING: Final = "NULL"
_MODELS: Final = {"qwen3_vl": "Qwen3VLForConditionalGeneration"}


class Qwen3VLEncoder(QwenVLEncoder):
    """Qwen3-VL-Embedding. Queries and documents differ by their instructions only."""

    max_tokens = MAX_TOKENS

    def prompt(self, request: EncodeRequest) -> str:
        """See `render`."""
        return render(request.content, request.instruction)

    def resize(self, picture: PIL.Image.Image, image: Image) -> PIL.Image.Image:
        """Within 4096 to 1843200 pixels, sides multiples of 32; the checkpoint's own limits are not applied."""
        return resized(picture, self._checkpoint.factor, PIXELS, image)

    def positions(self, is_picture: NDArray[np.bool_], grids: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
        """M-RoPE."""
        return grid_positions(is_picture, grids)


def render(content: Content, instruction: str | None) -> str:
    """The chat as one string. An instruction that ends in no punctuation gets a full stop; empty content is `NULL`."""
    system = (instruction or "").strip() or DEFAULT_INSTRUCTION
    if not unicodedata.category(system[-1]).startswith("P"):
        system += "."
    picture = f"<|vision_start|>{IMAGE_TOKEN}<|vision_end|>"
    user = "".join(part.text if isinstance(part, Text) else picture for part in content.parts) or _NOTHING
    return f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"


def load(spec: Spec, *, device: str | None, limits: MediaLimits, options: EngineOptions) -> Qwen3VLEncoder:
    """Load `qwen3-vl:HUB_ID[@REVISION]` or `qwen3-vl:FOLDER`.

    Raises:
        SpecError: the spec names no model.
        ModelError: the checkpoint is missing, of another kind or not whole.
    """
    recipe = f"qwen3-vl {RECIPE_VERSION} {PIXELS} {MAX_TOKENS}"
    checkpoint = load_checkpoint(spec, device=device, models=_MODELS, recipe=recipe, max_tokens=MAX_TOKENS)
    return Qwen3VLEncoder(checkpoint, spec=absolute(spec), limits=limits, options=engine_options(options))
