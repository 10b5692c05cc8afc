"""`qwen3-vl-reranker`: Qwen3-VL-Reranker (arXiv 2601.04720), which answers yes or no to a query and a document.

One forward pass and no generation: the score is the sigmoid of the last token's state times the difference of two rows
of the head, that of `yes` and that of `no`, in float32. Each side's pictures come before its text, and an empty side
is `NULL`, as in the published code. The query is first, so what stands before the documents is read once a query.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from mmseek._types import Content, Pair
from mmseek.errors import InputError
from mmseek.models.qwen_vl_inputs import PixelRange
from mmseek.rerank.mllm.engine import MllmReranker
from mmseek.rerank.mllm.loading import load_family
from mmseek.rerank.mllm.sequences import Parts, Prompt

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmseek.models.spec import Spec

__all__ = ["DEFAULT_INSTRUCTION", "Qwen3VLReranker", "load", "render", "truncated"]

# To be raised by any change that gives other scores from the same weights.
RECIPE_VERSION: Final = 1
DEFAULT_INSTRUCTION: Final = "Given a search query, retrieve relevant candidates that answer the query."
_SYSTEM: Final = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".'
)
_NOTHING: Final = "NULL"
LEAST_PIXELS: Final = 4 * 32**2
MOST_PIXELS: Final = 1800 * 32**2
MAX_TOKENS: Final = 10240
# The end of the prompt, which is never cut: `<|im_end|>`, a new line, `<|im_start|>`, `assistant`, a new line.
_KEPT_AT_END: Final = 5


class Qwen3VLReranker(MllmReranker):
    """P(yes) of a pair of texts, pictures or both. Thread-safe.

    `max_tokens` is where the text of longer pairs is cut.
    """

    max_tokens = MAX_TOKENS

    def prompt(self, pair: Pair) -> Prompt:
        """See `render`."""
        return render(pair)

    def fit(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """See `truncated`."""
        if len(numbers) <= self.max_tokens + _KEPT_AT_END:
            return numbers
        return np.asarray(truncated(numbers.tolist(), self.max_tokens, self.backbone.special), dtype=np.int64)


def render(pair: Pair) -> Prompt:
    """The chat, the pictures of the query first."""
    instruction = pair.instruction or DEFAULT_INSTRUCTION
    start = f"<|im_start|>system\n{_SYSTEM}<|im_end|>\n<|im_start|>user\n<Instruct>: {instruction}<Query>:"
    return Prompt(
        shared=(start, *_side(pair.query), "\n<Document>:"),
        rest=(*_side(pair.document), "<|im_end|>\n<|im_start|>assistant\n"),
    )


def _side(content: Content) -> Parts:
    if not content.images and not any(content.texts):
        return (_NOTHING,)
    return (*content.images, *content.texts)


def truncated(tokens: Sequence[int], most: int, special: Iterable[int]) -> list[int]:
    """At most `most` tokens and the last five: the end of the text goes, the special tokens stay.

    Raises:
        InputError: the special tokens alone, those of pictures among them, are too many.
    """
    head, end = list(tokens[:-_KEPT_AT_END]), list(tokens[-_KEPT_AT_END:])
    if len(head) <= most:
        return head + end
    kept = frozenset(special)
    room = most - sum(token in kept for token in head)
    if room < 0:
        raise InputError(f"the pictures need {most - room} tokens and the model takes {most}: give fewer")
    result = []
    for token in head:
        if token not in kept:
            room -= 1
            if room < 0:
                continue
        result.append(token)
    return result + end


def load(spec: Spec, *, device: str | None) -> Qwen3VLReranker:
    """Load `qwen3-vl-reranker:HUB_ID[@REVISION]` or `qwen3-vl-reranker:FOLDER`: a model, or an adapter.

    Raises:
        ModelError: the checkpoint is missing, of another kind or not whole.
    """
    return load_family(
        Qwen3VLReranker,
        spec,
        device,
        kinds=("qwen3_vl",),
        answers=("yes", "no"),
        recipe=f"qwen3-vl-reranker {RECIPE_VERSION} {LEAST_PIXELS} {MOST_PIXELS} {MAX_TOKENS}",
        pixels=PixelRange(LEAST_PIXELS, MOST_PIXELS),
        adapter=True,
    )
