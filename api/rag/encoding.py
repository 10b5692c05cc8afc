"""An encoder as the embedding classes of frameworks use it: texts and pictures in, lists of floats out."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmseek._types import Content
from mmseek.embed import load_encoder
from mmseek.protocols import Encoder

if TYPE_CHECKING:
    from mmseek._types import FloatArray

__all__ = ["SharedEncoder"]


class SharedEncoder:
    """An encoder that several threads may ask; they take turns.

    Args:
        encoder: a spec, or a loaded encoder.
        device: where a spec's model runs, for example `cpu` or `cuda`.
        instruction: what queries look for, to encoders that can use it.
    """

    def __init__(self, encoder: str | Encoder, device: str | None = None, instruction: str | None = None) -> None:
        self.encoder = load_encoder(encoder, device=device) if isinstance(encoder, str) else encoder
        self.instruction = instruction
        self._turn = threading.Lock()

    def query(self, content: Content) -> list[float]:
        """The vector of a query: `dim` floats of length 1 in all.

        Raises:
            MmseekError: it cannot be encoded.
        """
        with self._turn:
            return _rows(self.encoder.encode_query([content], self.instruction))[0]

    def documents(self, contents: Sequence[Content]) -> list[list[float]]:
        """The vectors of documents, in their order.

        Raises:
            MmseekError: the first one that cannot be encoded, named by its position.
        """
        if not contents:
            return []
        with self._turn:
            return _rows(self.encoder.encode_document(contents))


def _rows(vectors: FloatArray) -> list[list[float]]:
    rows: Any = vectors.tolist()
    return list(rows)
