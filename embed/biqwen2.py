"""`biqwen2`: BiQwen2, the single-vector sibling of ColQwen2 (Faysse et al. 2024, arXiv:2407.01449).

What the model reads is ColQwen2's, see `render`; the vector is the last token's state. Pictures keep true rotary
positions, by row and column, and the checkpoint's own limits of pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmseek._types import Content, EncodeRequest, Image, Role, Text
from mmseek.embed.engine import EngineOptions
from mmseek.embed.qwen_vl import (
    IMAGE_TOKEN,
    Checkpoint,
    QwenVLEncoder,
    engine_options,
    load_checkpoint,
    picture_settings,
)
from mmseek.errors import InputError, ModelError
from mmseek.media import MediaLimits
from mmseek.models.adapters import split_adapter
from mmseek.models.checkpoints import find_checkpoint
from mmseek.models.qwen_vl_inputs import PixelRange, grid_positions, resized
from mmseek.models.spec import Spec, absolute

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image
    from numpy.typing import NDArray

__all__ = ["AUGMENTATION", "MAX_TOKENS", "MODELS", "BiQwen2Encoder", "load", "pixel_range", "render"]

# To be raised by any change that gives other vectors from the same weights.
RECIPE_VERSION: Final = 1
# Appended to a query: room in which the model may think of further words.
AUGMENTATION: Final = "<|endoftext|>" * 10
MAX_TOKENS: Final = 32768
MODELS: Final = {"qwen2_vl": "Qwen2VLForConditionalGeneration"}
# What transformers' picture processor takes where the checkpoint says nothing.
_PIXELS: Final = PixelRange(56 * 56, 28 * 28 * 1280)


class BiQwen2Encoder(QwenVLEncoder):
    """BiQwen2. Instructions are not used.

    Args:
        checkpoint: the loaded model.
        pixels: how many a resized picture may have.
        **rest: see `QwenVLEncoder`.
    """

    max_tokens = MAX_TOKENS

    def __init__(self, checkpoint: Checkpoint, *, pixels: PixelRange, **rest: Any) -> None:
        super().__init__(checkpoint, **rest)
        self._pixels = pixels

    def prompt(self, request: EncodeRequest) -> str:
        """See `render`."""
        if request.content.is_empty:
            raise InputError("an item has neither text nor image: give at least one")
        return render(request.content, request.role)

    def resize(self, picture: PIL.Image.Image, image: Image) -> PIL.Image.Image:
        """Within the checkpoint's range of pixels, sides multiples of 28."""
        return resized(picture, self._checkpoint.factor, self._pixels, image)

    def positions(self, is_picture: NDArray[np.bool_], grids: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
        """M-RoPE: a picture's tokens by row and column."""
        return grid_positions(is_picture, grids)


def render(content: Content, role: Role) -> str:
    """What the model reads: of a picture `<|im_start|>user\\n(picture)Describe the image.<|im_end|><|endoftext|>`.

    A text stands alone, and a query is followed by ten `<|endoftext|>`. Texts beside pictures, for which the original
    has no form, stand in their order before `Describe the image.`
    """
    picture = f"<|vision_start|>{IMAGE_TOKEN}<|vision_end|>"
    end = AUGMENTATION if role == "query" else ""
    if not content.images:
        return content.text + end
    parts = "".join(part.text if isinstance(part, Text) else picture for part in content.parts)
    return f"<|im_start|>user\n{parts}Describe the image.<|im_end|><|endoftext|>{end}"


def pixel_range(folder: Path) -> PixelRange:
    """The limits of pixels that a checkpoint's picture settings give, in either of transformers' spellings.

    Raises:
        ModelError: they are no numbers, or the least is more than the most.
    """
    path, settings = picture_settings(folder)
    size = settings.get("size")
    size = size if isinstance(size, Mapping) else {}
    least = settings.get("min_pixels") or size.get("shortest_edge") or _PIXELS.least
    most = settings.get("max_pixels") or size.get("longest_edge") or _PIXELS.most
    if not isinstance(least, int) or not isinstance(most, int) or not 0 < least <= most:
        raise ModelError(f"{path} limits pictures to {least!r} to {most!r} pixels: get the checkpoint again")
    return PixelRange(least, most)


def load(spec: Spec, *, device: str | None, limits: MediaLimits, options: EngineOptions) -> BiQwen2Encoder:
    """Load `biqwen2:HUB_ID[@REVISION]` or `biqwen2:FOLDER`.

    Raises:
        SpecError: the spec names no model.
        ModelError: the checkpoint is missing, of another kind or not whole.
    """
    recipe = f"biqwen2 {RECIPE_VERSION} {MAX_TOKENS}"
    checkpoint = load_checkpoint(spec, device=device, models=MODELS, recipe=recipe, max_tokens=MAX_TOKENS)
    return BiQwen2Encoder(
        checkpoint,
        pixels=pixel_range(find_checkpoint(split_adapter(spec)[0])),
        spec=absolute(spec),
        limits=limits,
        options=engine_options(options),
    )
