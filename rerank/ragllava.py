"""`ragllava`: RagVL's knowledge-enhanced reranking (arXiv 2407.21439), "is the image relevant to the question?".

The picture comes first, then its caption if there is one, then the question; the score is the softmax over the logits
of `Yes` and `No` at the first place of the answer, its first entry. The document is first, so its picture and caption
are kept for the next question.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mmseek._types import Pair
from mmseek.errors import InputError
from mmseek.rerank.mllm.chats import chat
from mmseek.rerank.mllm.engine import MllmReranker
from mmseek.rerank.mllm.loading import load_family
from mmseek.rerank.mllm.sequences import Prompt

if TYPE_CHECKING:
    from mmseek.models.spec import Spec

__all__ = ["CAPTION_TASK", "RECIPE_VERSION", "RagLlavaReranker", "load", "question"]

# To be raised by any change that gives other scores from the same weights.
RECIPE_VERSION: Final = 1
# The instruction that says that the query is a caption and not a question.
CAPTION_TASK: Final = "task:caption"
_KINDS: Final = ("llava", "llava_next", "internvl", "qwen2_vl", "qwen2_5_vl")


class RagLlavaReranker(MllmReranker):
    """P(Yes). The query is text; its own pictures, which RagVL does not have, come after the document's."""

    def prompt(self, pair: Pair) -> Prompt:
        """The chat of the backbone around `question`.

        Raises:
            InputError: the query has no text.
        """
        before, after = question(pair)
        pictures = (*pair.document.images, *pair.query.images)
        return chat(self.backbone, pictures, before, after, shared_pictures=len(pair.document.images))


def question(pair: Pair) -> tuple[str, str]:
    """The text after the pictures: what depends on the document alone, and the rest.

    Raises:
        InputError: the query has no text.
    """
    asked, caption = pair.query.text, pair.document.text
    if not asked.strip():
        raise InputError("this reranker asks about a picture in words and the query has none: add words")
    if pair.instruction == CAPTION_TASK:
        return "", f"Image Caption: {asked}\nIs the image relevant to the caption? Answer 'Yes' or 'No'."
    if caption.strip():
        end = "Based on the image and its caption, is the image relevant to the question? Answer 'Yes' or 'No'."
        return f"Image Caption: {caption}\nQuestion: ", f"{asked}\n{end}"
    return "Question: ", f"{asked}\nIs this image relevant to the question? Answer 'Yes' or 'No'."


def load(spec: Spec, *, device: str | None) -> RagLlavaReranker:
    """Load `ragllava:HUB_ID[@REVISION]` or `ragllava:FOLDER`: LLaVA, LLaVA-NeXT, InternVL, Qwen2-VL or
    Qwen2.5-VL, whole or as an adapter.

    Raises:
        ModelError: the checkpoint is missing, of another kind or not whole.
    """
    return load_family(
        RagLlavaReranker,
        spec,
        device,
        kinds=_KINDS,
        answers=("Yes", "No"),
        recipe=f"ragllava {RECIPE_VERSION}",
        document_first=True,
        adapter=True,
    )
