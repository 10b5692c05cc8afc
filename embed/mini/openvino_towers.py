"""Both towers of `mini` run by OpenVINO: the same word pieces and pixels, and the same vectors within 1e-4."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from mmseek.embed.mini.pictures import PictureTower
from mmseek.embed.mini.tokens import MAX_TOKENS, WordPieces
from mmseek.embed.mini.weights import WEIGHTS, WEIGHTS_SHA256, file_sha256, find_text_model, read_vocabulary
from mmseek.models.openvino import Compiled, bucketed, compiled

if TYPE_CHECKING:
    from mmseek._types import FloatArray

__all__ = ["OpenVinoTextTower", "openvino_pictures"]

# To be raised by any change of the modules below: what was converted before is then converted anew.
_VERSION: Final = 1
# The shape of all-MiniLM-L6-v2, whose weights are known by their hash.
_SHAPE: Final = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}


class _Texts(nn.Module):
    """Token numbers and mask, each (n, length), to the mean state of each text (n, 384), L2-normalised."""

    def __init__(self, weights: Path) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        self.model = BertModel(BertConfig(**_SHAPE), add_pooling_layer=False).eval()
        self.model.load_state_dict(load_file(weights), strict=False)

    def forward(self, numbers: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        states = self.model(input_ids=numbers, attention_mask=mask).last_hidden_state
        shares = mask[:, :, None].to(states.dtype)
        return F.normalize((states * shares).sum(1) / shares.sum(1), dim=1)


class OpenVinoTextTower:
    """As `mmseek.embed.mini.text.TextTower`. Safe to use from several threads.

    Args:
        folder: where the model is; without it, see `find_text_model`.
        lanes: batches that run at once.

    Raises:
        ModelError: the model is not found or is another one, or OpenVINO cannot run it.
    """

    def __init__(self, folder: Path | None = None, *, lanes: int = 1) -> None:
        self.folder = find_text_model(folder)
        self._tokenize = WordPieces(read_vocabulary(self.folder))
        self._model = compiled(
            lambda: _Texts(self.folder / WEIGHTS),
            lambda: [torch.ones(2, 16, dtype=torch.long), torch.ones(2, 16, dtype=torch.long)],
            [(-1, -1), (-1, -1)],
            fingerprint=WEIGHTS_SHA256,
            part=f"mini texts {_VERSION}",
            lanes=lanes,
        )

    def tokenize(self, text: str) -> list[int]:
        """The numbers of at most 256 word pieces."""
        return self._tokenize(text)

    def __call__(self, texts: Sequence[Sequence[int]]) -> FloatArray:
        """Vectors (n, 384), float32, L2-normalised, of tokenised texts, which fare best sorted by length."""
        return self._model(*bucketed(texts, padding=0, longest=MAX_TOKENS))


def openvino_pictures(path: Path, *, lanes: int) -> PictureTower:
    """The picture tower of a weights file, run by OpenVINO.

    Raises:
        ModelError: the weights are missing or damaged, or OpenVINO cannot run them.
    """
    inner = PictureTower.load(path)
    module: Any = inner.module
    model: Compiled = compiled(
        lambda: module,
        lambda: [torch.zeros(2, inner.size, inner.size, 3, dtype=torch.uint8)],
        [(-1, inner.size, inner.size, 3)],
        fingerprint=file_sha256(path),
        part=f"mini pictures {_VERSION}",
        lanes=lanes,
    )
    return PictureTower(lambda batch: torch.from_numpy(model(np.asarray(batch))), inner.preprocess, size=inner.size)
