"""`uniir-clip-sf:MODEL`, UniIR's CLIP with score fusion (Wei et al. 2023, arXiv:2311.17136).

The vector of a content is

    normalise(text_mask * t + image_mask * i)

with `t` and `i` as the towers project them, *not* normalised, so that the longer one counts for more; a mask is 0 where
there is no text or no picture. A query's text is its instruction and its text, so a query of a picture alone still has
the instruction's text; a document's text stands alone. Both are cleaned as in training (`clean_text`) and cut after 77
tokens, the mark of the end kept.

Beyond the original: several texts are joined by line breaks, and of several pictures `i` is the mean. Other than in the
original, transparent pictures are put on white. The original's tokenizer has ftfy
repair the text first; of that, curly quotation marks, ligatures and letters of East Asian width become plain ones here
too, and HTML's entities are resolved, but wrongly decoded text stays as it is.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from mmseek._types import EncodeRequest
from mmseek.embed.clip_encoder import ClipTowerEncoder, raw_sum
from mmseek.embed.engine import EngineOptions, Unit
from mmseek.media import MediaLimits
from mmseek.models.spec import Spec

if TYPE_CHECKING:
    from mmseek._types import FloatArray

__all__ = ["UniirClipEncoder", "clean_text", "load", "render_text", "rendered"]

# To be raised by any change that gives other vectors from the same weights.
_VERSION: Final = 1
# Curly quotation marks, the letters of East Asian width and the ligatures that would be read as other tokens.
_JOINED: Final = (0x132, 0x133, *range(0x1C4, 0x1CD), *range(0x1F1, 0x1F4), *range(0xFB00, 0xFB05), 0xFB06)
_PLAIN: Final = (
    {code: unicodedata.normalize("NFKC", chr(code)) for code in (*_JOINED, *range(0xFF01, 0xFFF0))}
    | dict.fromkeys([0x2BC, *range(0x2018, 0x201C)], "'")
    | dict.fromkeys(range(0x201C, 0x2020), '"')
)


class UniirClipEncoder(ClipTowerEncoder):
    """CLIP-SF: the masked sum of what the towers give."""

    recipe = f"uniir-clip-sf {_VERSION}"
    openai_crop = True

    def render(self, request: EncodeRequest) -> str:
        """The text as the tokenizer takes it."""
        return rendered(request)

    def combine(self, request: EncodeRequest, units: Sequence[Unit], vectors: Sequence[FloatArray]) -> FloatArray:
        """The sum that the module describes; not normalised."""
        del request
        return raw_sum(units, vectors)


def rendered(request: EncodeRequest) -> str:
    """The text of a request, with a query's instruction, as the tokenizer takes it."""
    text = render_text(request.content.text, request.instruction if request.role == "query" else None)
    # Both as OpenAI's tokenizer does; the entities twice, as there.
    return html.unescape(html.unescape(text.translate(_PLAIN)))


def render_text(text: str, instruction: str | None = None) -> str:
    """The text of a query, with its instruction if it has one, or of a document; "" if there is none."""
    return clean_text(f"{clean_text(instruction or '')} {text}")


def clean_text(text: str) -> str:
    """Without carriage returns, outer white space and quotation marks; with a capital first and a full stop last."""
    text = text.replace("\r", "").strip().strip('"')
    if not text:
        return ""
    text = text[0].upper() + text[1:]
    return text if text[-1] in ".?!" else f"{text}."


def load(spec: Spec, *, device: str | None, limits: MediaLimits, options: EngineOptions) -> UniirClipEncoder:
    """Load `uniir-clip-sf:MODEL`; errors as in `ClipTowerEncoder.load`."""
    return UniirClipEncoder.load(spec, device=device, limits=limits, options=options)
