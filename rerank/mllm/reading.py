"""Runs the language model over sequences, some of them behind a beginning that was read before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from mmseek.rerank.mllm.backbone import Backbone, Layers, Seen
    from mmseek.rerank.mllm.sequences import Tokens

__all__ = ["Past", "read_last"]


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """Keys and values of one sequence's tokens: of each layer two tensors (heads, tokens, size)."""

    layers: Layers

    @property
    def tokens(self) -> int:
        """How many."""
        return int(self.layers[0][0].shape[1])

    @property
    def bytes(self) -> int:
        """Of memory."""
        return sum(each.numel() * each.element_size() for layer in self.layers for each in layer)

    def first(self, tokens: int) -> Past:
        """The first tokens alone, copied, so that the rest can go."""
        return Past([(keys[:, :tokens].clone(), values[:, :tokens].clone()) for keys, values in self.layers])


def read_last(
    backbone: Backbone,
    rows: Sequence[Tokens],
    seen: Mapping[bytes, Seen],
    pasts: Sequence[Past] | None,
    *,
    keep: bool,
) -> tuple[torch.Tensor, list[Past]]:
    """The last token's state of each sequence (n, dim), and what was read of each if it is to be kept.

    Padded on the right, also between a shorter beginning and what follows it: the model is causal and the mask leaves
    those places out, so padding is never seen.

    Args:
        backbone: the model.
        rows: the sequences.
        seen: what pictures look like.
        pasts: the beginning of each row, read before; None if all of each row is to be read.
        keep: whether keys and values are returned.
    """
    from transformers import DynamicCache

    before = [0] * len(rows) if pasts is None else [past.tokens for past in pasts]
    lengths = [len(row) - start for row, start in zip(rows, before, strict=True)]
    device, behind, longest = backbone.device, max(before), max(lengths)
    numbers = np.zeros((len(rows), longest), dtype=np.int64)
    is_picture = np.zeros((len(rows), longest), dtype=np.bool_)
    mask = np.zeros((len(rows), behind + longest), dtype=np.int64)
    positions = np.zeros((len(rows[0].positions), len(rows), longest), dtype=np.int64)
    for place, (row, start, length) in enumerate(zip(rows, before, lengths, strict=True)):
        numbers[place, :length] = row.numbers[start:]
        is_picture[place, :length] = row.is_picture[start:]
        positions[:, place, :length] = row.positions[:, start:]
        mask[place, :start] = mask[place, behind : behind + length] = 1
    inputs, deeper = _embedded(backbone, numbers, is_picture, _following(rows, before, seen))
    cache = DynamicCache() if keep or pasts is not None else None
    if pasts is not None and cache is not None:
        for layer, (keys, values) in enumerate(_stacked(pasts, behind)):
            cache.update(keys, values, layer)
    where = torch.from_numpy(positions).to(device)
    states = backbone.read(
        cache=cache,
        inputs_embeds=inputs,
        attention_mask=torch.from_numpy(mask).to(device),
        position_ids=where if len(where) > 1 else where[0],
        use_cache=cache is not None,
        **deeper,
    )
    last = torch.tensor(lengths, device=device) - 1
    chosen = states[torch.arange(len(rows), device=device), last]
    if not keep or cache is None:
        return chosen, []
    return chosen, [
        Past([(layer.keys[place], layer.values[place]) for layer in cache.layers]) for place in range(len(rows))
    ]


def _following(rows: Sequence[Tokens], before: Sequence[int], seen: Mapping[bytes, Seen]) -> list[Seen]:
    """The pictures that stand behind what was read before, in the order of the rows."""
    found = []
    for row, start in zip(rows, before, strict=True):
        gone = int(row.is_picture[:start].sum())
        for picture in row.pictures:
            if gone > 0:
                gone -= picture.tokens
            else:
                found.append(seen[picture.key])
    return found


def _embedded(
    backbone: Backbone, numbers: np.ndarray, is_picture: np.ndarray, pictures: Sequence[Seen]
) -> tuple[torch.Tensor, dict[str, object]]:
    """Embeddings (n, tokens, dim) with the pictures' states in their places, and what deeper layers get of them."""
    inputs = backbone.body.get_input_embeddings()(torch.from_numpy(numbers).to(backbone.device))
    if not pictures:
        return inputs, {}
    masks = torch.from_numpy(is_picture).to(backbone.device)
    inputs[masks] = torch.cat([picture.states for picture in pictures]).to(inputs.dtype)
    return inputs, backbone.deeper(masks, pictures)


def _stacked(pasts: Sequence[Past], tokens: int) -> Layers:
    """Beginnings as the rows of one batch; equal ones are not copied, shorter ones are padded behind."""
    if all(past is pasts[0] for past in pasts):
        return [
            (keys[None].expand(len(pasts), -1, -1, -1), values[None].expand(len(pasts), -1, -1, -1))
            for keys, values in pasts[0].layers
        ]
    return [
        (
            torch.stack([_padded(past.layers[layer][0], tokens) for past in pasts]),
            torch.stack([_padded(past.layers[layer][1], tokens) for past in pasts]),
        )
        for layer in range(len(pasts[0].layers))
    ]


def _padded(each: torch.Tensor, tokens: int) -> torch.Tensor:
    return torch.nn.functional.pad(each, (0, 0, 0, tokens - each.shape[1]))
