"""`vlm2vec` with a LLaVA-NeXT backbone (VLM2Vec-LLaVa-Next, arXiv 2410.05160).

The prompt of `vlm2vec` with `<image>` for a picture, whatever `tokenizer.json` adds before it (`<s>`), and the state of
its last token:

    <image> Represent the given image with the following question: What is in the image
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mmseek._types import EncodeRequest
from mmseek.embed.engine import EngineOptions, Unit
from mmseek.embed.llava_next import IMAGE_TOKEN, LlavaNextEncoder, load_llava_next
from mmseek.embed.qwen_vl import engine_options
from mmseek.embed.sequence import SEQUENCE
from mmseek.embed.vlm2vec import prompt_of
from mmseek.media import MediaLimits
from mmseek.models.spec import Spec, absolute

__all__ = ["RECIPE_VERSION", "Vlm2VecLlavaEncoder", "load"]

# To be raised by any change that gives other vectors from the same weights.
RECIPE_VERSION: Final = 1


class Vlm2VecLlavaEncoder(LlavaNextEncoder):
    """VLM2Vec on LLaVA-NeXT. Queries and documents differ by their instructions only. Thread-safe."""

    def prompt(self, request: EncodeRequest) -> str:
        """See `vlm2vec.prompt_of`."""
        return prompt_of(request, IMAGE_TOKEN)

    def prepare(self, request: EncodeRequest) -> Sequence[Unit]:
        """One unit: the whole content.

        Raises:
            MediaError: a picture cannot be used.
            InputError: there is nothing to encode, or more than the model takes.
        """
        prompt = self.prompt(request)
        pictures = [self._checkpoint.picture(image, self._limits) for image in request.content.images]
        return [self._checkpoint.unit(SEQUENCE, prompt, pictures)]


def load(spec: Spec, *, device: str | None, limits: MediaLimits, options: EngineOptions) -> Vlm2VecLlavaEncoder:
    """Load a checkpoint of the type `llava_next`; `vlm2vec.load` calls this.

    Raises:
        SpecError: the spec names no model.
        ModelError: the checkpoint is missing, of another kind or not whole.
    """
    checkpoint = load_llava_next(spec, device=device, recipe=f"vlm2vec llava_next {RECIPE_VERSION}")
    return Vlm2VecLlavaEncoder(checkpoint, spec=absolute(spec), limits=limits, options=engine_options(options))
