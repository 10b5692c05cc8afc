"""Models of sentence-transformers that several threads may run at once, which on a CPU is a batch for each core.

A forward pass of the package's own modules keeps nothing, so any number of threads may be in one. Its tokenizer keeps
padding and truncation as state, so there one goes after the other.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Final

__all__ = ["may_share_model", "tokenise_in_turn"]

_OWN: Final = "sentence_transformers."
_KNOWN: Final = ("transformers.", "mmseek.")
# Positions of these kinds are computed anew, in place, as soon as a longer text comes.
_CHANGING: Final = ("dynamic", "longrope")


def may_share_model(model: Any) -> bool:
    """Whether a `SentenceTransformer` may be in several forward passes at once.

    Not those that read chats, whose vision-language models note positions while they run, and none with code of its
    own.
    """
    own = all(type(module).__module__.startswith(_OWN) for module in model)
    return own and "message" not in model.modalities and not any(_changes(module) for module in model)


def tokenise_in_turn(model: Any) -> None:
    """Let one thread at a time through what `encode` prepares texts with; pictures and the model take any number."""
    import PIL.Image

    turn = threading.Lock()
    alone = model.preprocess

    def preprocess(inputs: Sequence[Any], **options: Any) -> Any:
        if all(isinstance(each, PIL.Image.Image) for each in inputs):
            return alone(inputs, **options)
        with turn:
            return alone(inputs, **options)

    model.preprocess = preprocess


def _changes(module: Any) -> bool:
    """Whether a module's transformer has code of its own, or positions that change with the lengths it has seen."""
    inner = getattr(module, "auto_model", None)
    if inner is None:
        return False
    rope = getattr(inner.config, "rope_parameters", None) or {}
    kinds = {str(each.get("rope_type")) for each in (rope, *rope.values()) if isinstance(each, dict)}
    return not type(inner).__module__.startswith(_KNOWN) or not kinds.isdisjoint(_CHANGING)
