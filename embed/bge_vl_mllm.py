"""`bge-vl` on LLaVA-NeXT: BGE-VL-MLLM (Zhou et al. 2024, MegaPairs, arXiv:2412.14475), a Mistral that sees.

The vector is the state of the last token of one turn; a query has an instruction, and a document has none:

    [INST] \\n <instruct> {instruction} <query>  {text} \\n <image> [/INST]
    [INST]  {text} \\n <image> [/INST]

with every blank as the authors' code sets it. A picture is squeezed to 512 x 512 pixels before LLaVA-NeXT cuts it up.
The original takes a text, then a picture. Here an item whose pictures all come before its texts, as the shorthand of
items has them, is read in that order too, its texts first; any other sequence stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mmseek._types import Content, EncodeRequest, Text
from mmseek.embed.engine import EngineOptions, Unit
from mmseek.embed.llava_next import IMAGE_TOKEN, LlavaNextEncoder, load_llava_next
from mmseek.embed.qwen_vl import engine_options
from mmseek.embed.sequence import SEQUENCE
from mmseek.errors import InputError
from mmseek.media import MediaLimits
from mmseek.models.spec import Spec, absolute

__all__ = ["RECIPE_VERSION", "SIDE", "BgeVlMllmEncoder", "load", "render"]

# To be raised by any change that gives other vectors from the same weights.
RECIPE_VERSION: Final = 1
SIDE: Final = 512


class BgeVlMllmEncoder(LlavaNextEncoder):
    """BGE-VL-MLLM. A document's instruction is not used. Thread-safe."""

    def prompt(self, request: EncodeRequest) -> str:
        """See `render`."""
        if request.content.is_empty:
            raise InputError("an item has neither text nor image: give at least one")
        return render(request)

    def prepare(self, request: EncodeRequest) -> Sequence[Unit]:
        """One unit: the whole content.

        Raises:
            MediaError: a picture cannot be used.
            InputError: there is nothing to encode, or more than the model takes.
        """
        prompt = self.prompt(request)
        pictures = [
            self._checkpoint.picture(image, self._limits, size=(SIDE, SIDE)) for image in request.content.images
        ]
        return [self._checkpoint.unit(SEQUENCE, prompt, pictures)]


def render(request: EncodeRequest) -> str:
    """The turn as one string; an empty instruction counts as none."""
    if request.role != "query":
        begin = "[INST] "
    elif request.instruction:
        begin = f"[INST] \n <instruct> {request.instruction} <query> "
    else:
        begin = "[INST] \n <instruct>  <query>"
    pieces = [f" {part.text} \n" if isinstance(part, Text) else f" {IMAGE_TOKEN}" for part in _ordered(request.content)]
    return f"{begin}{''.join(pieces)} [/INST]"


def _ordered(content: Content) -> Sequence[object]:
    """Texts first where all pictures stand before them; an empty text is left out."""
    parts = [part for part in content.parts if not isinstance(part, Text) or part.text]
    texts = [part for part in parts if isinstance(part, Text)]
    pictures = [part for part in parts if not isinstance(part, Text)]
    return [*texts, *pictures] if parts == [*pictures, *texts] else parts


def load(spec: Spec, *, device: str | None, limits: MediaLimits, options: EngineOptions) -> BgeVlMllmEncoder:
    """Load a checkpoint of the type `llava_next`; `bge_vl.load` calls this.

    Raises:
        SpecError: the spec names no model.
        ModelError: the checkpoint is missing, of another kind or not whole.
    """
    checkpoint = load_llava_next(spec, device=device, recipe=f"bge-vl mllm {RECIPE_VERSION} {SIDE}")
    return BgeVlMllmEncoder(checkpoint, spec=absolute(spec), limits=limits, options=engine_options(options))
