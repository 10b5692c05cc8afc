"""A BERT that runs texts end to end in one row of tokens, without padding.

Same weights and same arithmetic as `transformers.BertModel` (Devlin et al. 2018, arXiv:1810.04805) in evaluation mode:
word, position and type embeddings, then layers of attention and feed-forward, each with a residual and a norm after it.
What differs is the shape. All linear layers see one `(tokens, width)` matrix, and only attention is run text by text,
where texts of equal length share a call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from mmseek.embed.runs import Run, runs_of

__all__ = ["PackedBert"]

_EPSILON: Final = 1e-12

Pair: TypeAlias = tuple[Tensor, Tensor]


class _Layer(NamedTuple):
    """Weight and bias of each step."""

    qkv: Pair
    attention_out: Pair
    attention_norm: Pair
    up: Pair
    down: Pair
    norm: Pair


class PackedBert:
    """Token numbers of any number of texts -> the last layer's hidden states, averaged over each text.

    Args:
        weights: BERT's tensors by their names in a checkpoint, float32.
        heads: attention heads in a layer.
    """

    def __init__(self, weights: Mapping[str, Tensor], *, heads: int, device: str = "cpu") -> None:
        moved = {name: tensor.to(device) for name, tensor in weights.items()}
        embeddings = "embeddings.{}_embeddings.weight"
        self._words = moved[embeddings.format("word")]
        self._positions = moved[embeddings.format("position")] + moved[embeddings.format("token_type")][0]
        self._norm = _pair(moved, "embeddings.LayerNorm")
        count = 1 + max(int(name.split(".")[2]) for name in moved if name.startswith("encoder.layer."))
        self._layers = [_layer(moved, f"encoder.layer.{number}") for number in range(count)]
        self._heads = heads

    @torch.inference_mode()
    def __call__(self, texts: Sequence[Sequence[int]]) -> Tensor:
        """Mean of the hidden states of each text: `(texts, width)`. Fastest with texts of equal length side by side."""
        device = self._words.device
        lengths = [len(text) for text in texts]
        numbers = torch.tensor([number for text in texts for number in text], device=device)
        positions = torch.cat([torch.arange(length) for length in lengths]).to(device)
        x = F.embedding(numbers, self._words) + F.embedding(positions, self._positions)
        x = self._normed(x, self._norm)
        runs = runs_of(lengths)
        for layer in self._layers:
            attended = F.linear(self._attend(F.linear(x, *layer.qkv), runs), *layer.attention_out)
            x = self._normed(attended.add_(x), layer.attention_norm)
            inner = torch.ops.aten.gelu_(F.linear(x, *layer.up))  # in place, which `F.gelu` cannot
            x = self._normed(F.linear(inner, *layer.down).add_(x), layer.norm)
        return torch.cat(
            [x[run.start :][: run.items * run.length].view(run.items, run.length, -1).mean(1) for run in runs]
        )

    def _attend(self, qkv: Tensor, runs: Sequence[Run]) -> Tensor:
        """Attention within each text: `(tokens, 3 * width) -> (tokens, width)`."""
        width = qkv.shape[1] // 3
        out = qkv.new_empty(qkv.shape[0], width)
        for start, count, length in runs:
            end = start + count * length
            query, key, value = qkv[start:end].view(count, length, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
            attended = F.scaled_dot_product_attention(query, key, value)
            out[start:end].view(count, length, self._heads, -1).copy_(attended.transpose(1, 2))
        return out

    @staticmethod
    def _normed(x: Tensor, norm: Pair) -> Tensor:
        return F.layer_norm(x, (x.shape[1],), *norm, _EPSILON)


def _pair(weights: Mapping[str, Tensor], name: str) -> Pair:
    return weights[f"{name}.weight"], weights[f"{name}.bias"]


def _layer(weights: Mapping[str, Tensor], name: str) -> _Layer:
    qkv = [_pair(weights, f"{name}.attention.self.{part}") for part in ("query", "key", "value")]
    return _Layer(
        qkv=(torch.cat([weight for weight, _ in qkv]), torch.cat([bias for _, bias in qkv])),
        attention_out=_pair(weights, f"{name}.attention.output.dense"),
        attention_norm=_pair(weights, f"{name}.attention.output.LayerNorm"),
        up=_pair(weights, f"{name}.intermediate.dense"),
        down=_pair(weights, f"{name}.output.dense"),
        norm=_pair(weights, f"{name}.output.LayerNorm"),
    )
