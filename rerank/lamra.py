"""`lamra`: LamRA-Rank (arXiv 2412.01720), Qwen2-VL or Qwen2.5-VL asked Yes or No about a query and a candidate.

`lamra` is pointwise: the softmax over the logits of `Yes` and `No`, its first entry. The query is first, so what stands
before the candidates is read once a query. The paper ranks by `embedding score + w * this score`: see fusion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mmseek._types import Content, Pair
from mmseek.rerank.mllm.chats import turns
from mmseek.rerank.mllm.engine import MllmReranker
from mmseek.rerank.mllm.loading import load_family
from mmseek.rerank.mllm.sequences import Parts, Prompt

if TYPE_CHECKING:
    from mmseek.models.spec import Spec

__all__ = ["KINDS", "RECIPE_VERSION", "LamraReranker", "load", "side"]

# To be raised by any change that gives other scores from the same weights.
RECIPE_VERSION: Final = 1
KINDS: Final = ("qwen2_vl", "qwen2_5_vl")
# As it was trained, the slip of the pen included.
_ASKED: Final = (
    "I will provide you with a query and a candidate. Please evaluate whether the candidate meets the requirements of "
    "the query. If it does, respond with 'Yes'; if it doesn't, responed with 'No'."
)


class LamraReranker(MllmReranker):
    """P(Yes), one candidate at a time."""

    def prompt(self, pair: Pair) -> Prompt:
        """The question, the query, the candidate, each side's pictures before its text."""
        start, end = turns(self.backbone)
        shared = (f"{start}{_ASKED}Query:", *side(instructed(pair)), "Candidate:")
        return Prompt(shared, (*side(pair.document), end))


def instructed(pair: Pair) -> Content:
    """The query with its instruction before its text, as M-BEIR has it."""
    if not pair.instruction:
        return pair.query
    return Content.of(*pair.query.images, f"{pair.instruction} {pair.query.text}".rstrip())


def side(content: Content) -> Parts:
    """Pictures, then the text."""
    return (*content.images, content.text)


def load(spec: Spec, *, device: str | None) -> LamraReranker:
    """Load `lamra:HUB_ID[@REVISION]` or `lamra:FOLDER`.

    Raises:
        ModelError: the checkpoint is missing, of another kind or not whole.
    """
    return load_family(
        LamraReranker,
        spec,
        device,
        kinds=KINDS,
        answers=("Yes", "No"),
        recipe=f"lamra {RECIPE_VERSION}",
        adapter=True,
    )
