"""`e5-v`: E5-V (Jiang et al. 2024, arXiv:2407.12580), LLaVA-NeXT on Llama 3 asked to sum up its input in one word.

The vector is the state of the last token of the prompt, after the final norm. A text and a picture are encoded each by
itself; both together have the sum of their normalised vectors, which is this project's choice and not E5-V's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from mmseek._types import EncodeRequest
from mmseek.embed.engine import EngineOptions, Unit
from mmseek.embed.llava_next import IMAGE_TOKEN, LlavaNextEncoder, load_llava_next
from mmseek.embed.qwen_vl import engine_options
from mmseek.errors import InputError
from mmseek.media import MediaLimits
from mmseek.models.spec import Spec, absolute

if TYPE_CHECKING:
    from mmseek._types import FloatArray

__all__ = ["IMAGE_PROMPT", "IMAGE_TOKEN", "RECIPE_VERSION", "E5VEncoder", "load", "text_prompt"]

# To be raised by any change that gives other vectors from the same weights.
RECIPE_VERSION: Final = 1
_TURN: Final = (
    "<|start_header_id|>user<|end_header_id|>\n\n",
    "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n \n",
)
IMAGE_PROMPT: Final = f"{_TURN[0]}{IMAGE_TOKEN}\nSummary above image in one word: {_TURN[1]}"
_TEXT: Final = "text"
_PICTURE: Final = "picture"


class E5VEncoder(LlavaNextEncoder):
    """E5-V. Instructions are not used; queries and documents are encoded alike. Thread-safe."""

    kinds = (_TEXT, _PICTURE)

    def prepare(self, request: EncodeRequest) -> Sequence[Unit]:
        """One unit for the text, if there is any, and one for each picture.

        Raises:
            MediaError: a picture cannot be used.
            InputError: there is nothing to encode, or the text is too long.
        """
        content = request.content
        if content.is_empty:
            raise InputError("an item has neither text nor image: give at least one")
        pictures = (self._checkpoint.picture(image, self._limits) for image in content.images)
        units = [self._checkpoint.unit(_PICTURE, IMAGE_PROMPT, [picture]) for picture in pictures]
        if content.text.strip():
            units.append(self._checkpoint.unit(_TEXT, text_prompt(content.text)))
        return units

    def combine(self, request: EncodeRequest, units: Sequence[Unit], vectors: Sequence[FloatArray]) -> FloatArray:
        """The sum of the text's vector and the mean of the pictures', each normalised."""
        del request
        sides = []
        for kind in (_TEXT, _PICTURE):
            rows = [vector for unit, vector in zip(units, vectors, strict=True) if unit.kind == kind]
            if rows:
                mean = np.mean(rows, axis=0)
                sides.append(mean / np.linalg.norm(mean))
        total: FloatArray = np.sum(sides, axis=0).astype(np.float32)
        return total


def text_prompt(text: str) -> str:
    """What the model reads of a text."""
    return f"{_TURN[0]}{text}\nSummary above sentence in one word: {_TURN[1]}"


def load(spec: Spec, *, device: str | None, limits: MediaLimits, options: EngineOptions) -> E5VEncoder:
    """Load `e5-v:HUB_ID[@REVISION]` or `e5-v:FOLDER`.

    Raises:
        SpecError: the spec names no model.
        ModelError: the checkpoint is missing, of another kind or not whole.
    """
    checkpoint = load_llava_next(spec, device=device, recipe=f"e5-v {RECIPE_VERSION}")
    return E5VEncoder(checkpoint, spec=absolute(spec), limits=limits, options=engine_options(options))
