"""`monoqwen`: MonoQwen2-VL, Qwen2-VL with a LoRA adapter that says True or False of a page and a query.

The page is first, so it is kept for the next query. The model was trained on pictures of pages; a document's text, and
a query's pictures, which it was not trained on, stand where its reader would look for them: the text after the page,
the pictures after the query.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mmseek._types import Pair
from mmseek.rerank.mllm.chats import turns
from mmseek.rerank.mllm.engine import MllmReranker
from mmseek.rerank.mllm.loading import load_family
from mmseek.rerank.mllm.sequences import Prompt

if TYPE_CHECKING:
    from mmseek.models.spec import Spec

__all__ = ["RECIPE_VERSION", "MonoQwenReranker", "load"]

# To be raised by any change that gives other scores from the same weights.
RECIPE_VERSION: Final = 1
_ASKED: Final = (
    "Assert the relevance of the previous image document to the following query, answer True or False. The query is: "
)


class MonoQwenReranker(MllmReranker):
    """P(True)."""

    def prompt(self, pair: Pair) -> Prompt:
        """The document, the question, the query, in Qwen2-VL's chat."""
        start, end = turns(self.backbone)
        document, query = pair.document, pair.query
        return Prompt((start, *document.images, document.text + _ASKED), (query.text, *query.images, end))


def load(spec: Spec, *, device: str | None) -> MonoQwenReranker:
    """Load `monoqwen:HUB_ID[@REVISION]` or `monoqwen:FOLDER`: an adapter and its base, or a whole model.

    Raises:
        ModelError: the checkpoint is missing, of another kind or not whole.
    """
    return load_family(
        MonoQwenReranker,
        spec,
        device,
        kinds=("qwen2_vl",),
        answers=("True", "False"),
        recipe=f"monoqwen {RECIPE_VERSION}",
        document_first=True,
        adapter=True,
    )
