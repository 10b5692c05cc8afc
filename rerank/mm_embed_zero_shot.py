"""`mm-embed-zero-shot`: MM-Embed's second stage (arXiv 2411.02571, section 4.3), LLaVA-NeXT asked True or False.

No training: the model is asked whether query and candidate belong together, in words that fit the task, and the score
is the softmax over the logits of `True` and `False`, its first entry. The paper gives the question for captions and
pictures; those for the other kinds of pairs are in the same form, and an instruction replaces them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mmseek._types import Content, Pair
from mmseek.rerank.mllm.chats import turns
from mmseek.rerank.mllm.engine import MllmReranker
from mmseek.rerank.mllm.loading import load_family
from mmseek.rerank.mllm.sequences import Parts, Prompt

if TYPE_CHECKING:
    from mmseek._types import Modality
    from mmseek.models.spec import Spec

__all__ = ["QUESTIONS", "RECIPE_VERSION", "ZeroShotReranker", "asked", "load"]

# To be raised by any change that gives other scores from the same weights.
RECIPE_VERSION: Final = 1
_ANSWERS: Final = "True or False"
# What is asked, by what the query and the candidate are.
QUESTIONS: Final[dict[tuple[Modality, Modality], str]] = {
    ("text", "image"): "Does the above daily-life image match the caption?",
    ("image", "text"): "Does the above daily-life image match the caption?",
    ("text", "text"): "Does the above document answer the query?",
    ("text", "image,text"): "Does the above image with its text answer the query?",
    ("image", "image"): "Do the two images above show the same?",
    ("image", "image,text"): "Does the above image with its text belong to the image before it?",
    ("image,text", "text"): "Does the above document answer the question about the image?",
    (
        "image,text",
        "image",
    ): "Is the second image above the first one with the change that the query asks for?",
    ("image,text", "image,text"): "Does the above image with its text answer the question about the image before it?",
}


class ZeroShotReranker(MllmReranker):
    """P(True). Instructions are questions that replace the task's own."""

    def prompt(self, pair: Pair) -> Prompt:
        """Query, candidate, question, in the chat of the backbone; a caption comes after the picture that it is of."""
        start, end = turns(self.backbone)
        question = f"{asked(pair)} {_ANSWERS}"
        if (pair.query.modality, pair.document.modality) == ("text", "image"):
            return Prompt((start,), (*_side("", pair.document), f"Caption: {pair.query.text}\n{question}", end))
        return Prompt((start, *_side("Query: ", pair.query)), (*_side(_named(pair), pair.document), question, end))


def asked(pair: Pair) -> str:
    """The question of a pair's task, or the instruction; `True or False` is added to it."""
    question = (pair.instruction or "").strip()
    return question.removesuffix(_ANSWERS).rstrip() or QUESTIONS[pair.query.modality, pair.document.modality]


def _named(pair: Pair) -> str:
    return "Caption: " if (pair.query.modality, pair.document.modality) == ("image", "text") else "Document: "


def _side(name: str, content: Content) -> Parts:
    """Pictures, each with a line break, then the text on a line of its own, its name before it."""
    pictures = [part for picture in content.images for part in (picture, "\n")]
    return (*pictures, f"{name}{content.text}\n") if content.text.strip() else tuple(pictures)


def load(spec: Spec, *, device: str | None) -> ZeroShotReranker:
    """Load `mm-embed-zero-shot:HUB_ID[@REVISION]` or `mm-embed-zero-shot:FOLDER`: a LLaVA-NeXT.

    Raises:
        ModelError: the checkpoint is missing, of another kind or not whole.
    """
    return load_family(
        ZeroShotReranker,
        spec,
        device,
        kinds=("llava_next",),
        answers=("True", "False"),
        recipe=f"mm-embed-zero-shot {RECIPE_VERSION}",
    )
