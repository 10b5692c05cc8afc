"""The text tower of `mini`: all-MiniLM-L6-v2.

Six layers of BERT (MiniLM: Wang et al. 2020, arXiv:2002.10957), trained for sentences as in Reimers and Gurevych 2019
(arXiv:1908.10084): the mean of the hidden states over at most 256 word pieces, L2-normalised.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from safetensors.torch import load_file
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from mmseek.embed.mini.bert import PackedBert
from mmseek.embed.mini.tokens import WordPieces
from mmseek.embed.mini.weights import WEIGHTS, find_text_model, read_vocabulary

if TYPE_CHECKING:
    from mmseek._types import FloatArray

__all__ = ["DIM", "TextTower"]

DIM: Final = 384
_HEADS: Final = 12


class TextTower:
    """Text -> word pieces -> vectors `(n, 384)`, float32, L2-normalised.

    Args:
        folder: where the model is; without it, see `find_text_model`.
        device: a torch device.

    Raises:
        ModelError: the model is not found or is another one.
    """

    def __init__(self, folder: Path | None = None, *, device: str = "cpu") -> None:
        self.folder = find_text_model(folder)
        self._tokenize = WordPieces(read_vocabulary(self.folder))
        self._bert = PackedBert(load_file(self.folder / WEIGHTS), heads=_HEADS, device=device)

    def tokenize(self, text: str) -> list[int]:
        """The numbers of at most 256 word pieces."""
        return self._tokenize(text)

    def __call__(self, texts: Sequence[Sequence[int]]) -> FloatArray:
        """Vectors of tokenised texts, which fare best sorted by length."""
        vectors: FloatArray = F.normalize(self._bert(texts), dim=1).cpu().numpy()
        return vectors
