"""The chats that the backbones were trained with: one turn of the user, the assistant's to come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from mmseek.rerank.mllm.sequences import Prompt

if TYPE_CHECKING:
    from mmseek._types import Image
    from mmseek.rerank.mllm.backbone import Backbone

__all__ = ["QWEN2_SYSTEM", "chat", "turns"]

QWEN2_SYSTEM: Final = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
_CHATML: Final = ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n")
_VICUNA: Final = (
    (
        "A chat between a curious user and an artificial intelligence assistant. "
        "The assistant gives helpful, detailed, and polite answers to the user's questions. USER: "
    ),
    " ASSISTANT:",
)
_MISTRAL: Final = ("[INST] ", " [/INST]")


def turns(backbone: Backbone) -> tuple[str, str]:
    """What stands before and after the user's words; the mark of beginning is the tokenizer's."""
    config = backbone.model.config
    if config.model_type in {"qwen2_vl", "qwen2_5_vl"}:
        return QWEN2_SYSTEM + _CHATML[0], _CHATML[1]
    if config.model_type in {"llava", "llava_next"}:
        return {"mistral": _MISTRAL, "qwen2": _CHATML}.get(config.get_text_config().model_type, _VICUNA)
    return _CHATML


def chat(
    backbone: Backbone, pictures: Sequence[Image], before: str, after: str, *, shared_pictures: int | None = None
) -> Prompt:
    """A question about pictures, the pictures first.

    Args:
        backbone: whose chat it is.
        pictures: in order.
        before: the text that other pairs with the same beginning have too.
        after: the text that follows.
        shared_pictures: how many of the pictures those pairs have too; all if it is not given. The text is shared only
            if all pictures are.
    """
    start, end = turns(backbone)
    # A line break after a picture, except with Qwen, whose own mark ends it.
    line = "" if backbone.model.config.model_type.startswith("qwen") else "\n"
    seen = [part for picture in pictures for part in (picture, line)]
    count = len(pictures) if shared_pictures is None else shared_pictures
    if count < len(pictures):
        return Prompt((start, *seen[: 2 * count]), (*seen[2 * count :], before, after, end))
    return Prompt((start, *seen, before), (after, end))
