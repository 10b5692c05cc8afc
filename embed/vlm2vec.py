"""`vlm2vec`: VLM2Vec v1 and V2 (arXiv 2410.05160 and 2507.04590); here with a Qwen2-VL or Qwen2.5-VL backbone.

The prompt is plain, without a chat template, and the vector the state of its last token. `instruction` comes before the
first text; pictures before that come before the instruction. Parts are joined by one space, or by nothing before a part
that begins with a newline:

    <|image_pad|> Represent the given image with the following question: What is in the image
    A cat and a dog

Other backbones have the same prompt with marks of their own: `vlm2vec_llava` and `vlm2vec_phi`.

Two of the original's ways matter to the vectors. A picture has no `<|vision_start|>` before it, so its tokens get plain
positions 0, 1, 2 ... instead of rows and columns; and the limits of its size are set by the code, not the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Final

import PIL.Image

from mmseek._types import Content, EncodeRequest, Image, Role, Text
from mmseek.embed.engine import EngineOptions
from mmseek.embed.qwen_vl import IMAGE_TOKEN, QwenVLEncoder, engine_options, load_checkpoint
from mmseek.errors import InputError
from mmseek.media import MediaLimits
from mmseek.models.adapters import split_adapter
from mmseek.models.checkpoints import find_checkpoint, json_object
from mmseek.models.qwen_vl_inputs import PixelRange, flat_positions, resized
from mmseek.models.spec import Spec, absolute

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmseek.protocols import Encoder

__all__ = ["DEFAULT_INSTRUCTIONS", "PIXELS", "RECIPE_VERSION", "Vlm2VecEncoder", "load", "prompt_of"]

# To be raised by any change that gives other vectors from the same weights.
RECIPE_VERSION: Final = 1
PIXELS: Final = PixelRange(28 * 28 * 4, 28 * 28 * 1280)
MAX_TOKENS: Final = 32768
# A picture with a side below this becomes a square of twice it, before anything else.
_SMALLEST_SIDE: Final = 28
# Where the caller gives no instruction. Text alone has none.
DEFAULT_INSTRUCTIONS: Final[Mapping[tuple[Role, str], str]] = {
    ("query", "image"): "Represent the given image.",
    ("document", "image"): "Represent the given image.",
    ("query", "image,text"): "Represent the given image with the following question:",
    ("document", "image,text"): "Represent the given image with related text information:",
}
_MODELS: Final = {"qwen2_vl": "Qwen2VLForConditionalGeneration", "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration"}
# Backbones of another kind, each in a module of its own.
_OTHERS: Final = {"llava_next": "mmseek.embed.vlm2vec_llava", "phi3_v": "mmseek.embed.vlm2vec_phi"}


class Vlm2VecEncoder(QwenVLEncoder):
    """VLM2Vec. Queries and documents differ by their instructions only."""

    max_tokens = MAX_TOKENS

    def prompt(self, request: EncodeRequest) -> str:
        """See `prompt_of`."""
        return prompt_of(request, IMAGE_TOKEN)

    def resize(self, picture: PIL.Image.Image, image: Image) -> PIL.Image.Image:
        """Within 3136 to 1003520 pixels, sides multiples of 28."""
        if min(picture.size) < _SMALLEST_SIDE:
            picture = picture.resize((2 * _SMALLEST_SIDE, 2 * _SMALLEST_SIDE), PIL.Image.Resampling.BICUBIC)
        return resized(picture, self._checkpoint.factor, PIXELS, image)

    def positions(self, is_picture: NDArray[np.bool_], grids: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
        """Flat, pictures or not."""
        del grids
        return flat_positions(len(is_picture))


def prompt_of(request: EncodeRequest, mark: str) -> str:
    """What a backbone whose pictures are marked so reads of a request, its instruction or the default one included.

    Raises:
        InputError: there is nothing to encode.
    """
    content = request.content
    if content.is_empty:
        raise InputError("an item has neither text nor image: give at least one")
    default = DEFAULT_INSTRUCTIONS.get((request.role, content.modality), "")
    return render(content, default if request.instruction is None else request.instruction, mark)


def render(content: Content, instruction: str, mark: str = IMAGE_TOKEN) -> str:
    """The prompt of VLM2Vec: parts in their order, the instruction before the first text or after all pictures.

    Empty texts are left out. What ends in white space keeps it.
    """
    parts = [part for part in content.parts if not isinstance(part, Text) or part.text]
    pieces = [part.text if isinstance(part, Text) else mark for part in parts]
    if instruction:
        first = next((place for place, part in enumerate(parts) if isinstance(part, Text)), len(parts))
        # MMEB's instructions are also handed around with the space that follows them; the model never saw two.
        pieces.insert(first, instruction.removesuffix(" ") if first < len(parts) else instruction)
    return "".join(piece if not place or piece.startswith("\n") else f" {piece}" for place, piece in enumerate(pieces))


def load(spec: Spec, *, device: str | None, limits: MediaLimits, options: EngineOptions) -> Encoder:
    """Load `vlm2vec:HUB_ID[@REVISION]` or `vlm2vec:FOLDER`, whichever of the backbones it has.

    Raises:
        SpecError: the spec names no model.
        ModelError: the checkpoint is missing, of another kind or not whole.
    """
    kind = str(json_object(find_checkpoint(split_adapter(spec)[0]) / "config.json").get("model_type"))
    if kind in _OTHERS:
        found: Encoder = import_module(_OTHERS[kind]).load(spec, device=device, limits=limits, options=options)
        return found
    recipe = f"vlm2vec {RECIPE_VERSION} {PIXELS} {MAX_TOKENS}"
    checkpoint = load_checkpoint(spec, device=device, models=_MODELS, recipe=recipe, max_tokens=MAX_TOKENS)
    return Vlm2VecEncoder(checkpoint, spec=absolute(spec), limits=limits, options=engine_options(options))
