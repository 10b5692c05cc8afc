"""How much a vision tower attends to each visual token: what FoPru (Jiang et al. 2024, arXiv:2411.14164) prunes by.

The attention weights are computed beside the tower's own attention, which does not give them, from what goes into one
layer. The tower itself is not changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from mmseek.models.token_reduction import Watched, received

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

__all__ = ["LlavaSignificance", "QwenSignificance"]


class QwenSignificance:
    """Of the vision tower of Qwen2-VL, Qwen2.5-VL or Qwen3-VL: the last layer with full attention.

    Args:
        visual: the tower.
    """

    def __init__(self, visual: Any) -> None:
        self._visual = visual
        full = getattr(visual, "fullatt_block_indexes", None)
        self._watched = Watched(visual.blocks[max(full) if full else len(visual.blocks) - 1].attn)

    def look(self) -> AbstractContextManager[dict[str, Any]]:
        """Around a call of the tower; what it gives goes to `scores`."""
        return self._watched.look()

    def scores(self, noted: Mapping[str, Any], grids: torch.Tensor) -> list[torch.Tensor]:
        """The significance of each visual token, (tokens,) a picture.

        Args:
            noted: see `look`.
            grids: (pictures, 3), patches in time, height and width.
        """
        from transformers.models.qwen2_vl.modeling_qwen2_vl import apply_rotary_pos_emb_vision

        attention, states = self._watched.attention, noted["hidden_states"]
        queries, keys, _ = attention.qkv(states).reshape(len(states), 3, attention.num_heads, -1).unbind(1)
        queries, keys = apply_rotary_pos_emb_vision(queries, keys, *noted["position_embeddings"])
        sizes: list[int] = grids.prod(-1).tolist()
        got = torch.cat(
            [
                received(query.transpose(0, 1), key.transpose(0, 1), attention.scaling)
                for query, key in zip(torch.split(queries, sizes), torch.split(keys, sizes), strict=True)
            ]
        )
        merge = self._visual.spatial_merge_size**2
        tokens = got.view(-1, merge).mean(dim=1)
        return list(torch.split(tokens[self._order(grids)], [size // merge for size in sizes]))

    def _order(self, grids: torch.Tensor) -> Any:
        """From the order inside the tower, which in Qwen2.5-VL is that of its windows, to that of the tokens."""
        visual = self._visual
        if not hasattr(visual, "window_size"):
            return slice(None)
        from transformers.vision_utils import get_vision_window_index

        index, _ = get_vision_window_index(
            grids,
            spatial_merge_size=visual.spatial_merge_size,
            window_size=visual.window_size,
            patch_size=visual.patch_size,
            kwargs={},
        )
        return torch.argsort(index)


class LlavaSignificance:
    """Of the vision tower of LLaVA-NeXT: the layer whose states are used.

    Args:
        model: transformers' `LlavaNextModel`.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        layers = [module for name, module in model.vision_tower.named_modules() if name.endswith(".self_attn")]
        layer = model.config.vision_feature_layer
        layer = layer if isinstance(layer, int) else layer[-1]
        self._watched = Watched(layers[_place(layer, len(layers))])

    def look(self) -> AbstractContextManager[dict[str, Any]]:
        """Around a call of the tower; what it gives goes to `scores`."""
        return self._watched.look()

    def scores(
        self, noted: Mapping[str, Any], patches: Sequence[int], sizes: torch.Tensor
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The significance of each visual token and its row, each (tokens,), a picture.

        A mark of a row's end gets no attention and so is the first to go.

        Args:
            noted: see `look`.
            patches: of each picture.
            sizes: (pictures, 2), height and width in pixels.
        """
        attention, states = self._watched.attention, noted["hidden_states"]
        heads, strategy = attention.num_heads, self._model.config.vision_feature_select_strategy
        queries, keys = (
            part(states).unflatten(-1, (heads, -1)).transpose(1, 2) for part in (attention.q_proj, attention.k_proj)
        )
        got = torch.stack([received(query, key, attention.scale) for query, key in zip(queries, keys, strict=True)])
        got = got[:, 1:] if strategy == "default" else got
        packed, _ = self._model.pack_image_features(
            torch.split(got[:, :, None], list(patches)),
            sizes,
            vision_feature_select_strategy=strategy,
            image_newline=torch.full((1,), -1.0, device=got.device),
        )
        vision = self._model.config.vision_config
        side = vision.image_size // vision.patch_size
        return [_with_rows(scores[:, 0], got.shape[1], side) for scores in packed]


def _place(layer: int, layers: int) -> int:
    """The layer whose output states of this number are: of `layers` + 1 states, the first goes into the first layer."""
    return max((layer if layer >= 0 else layers + 1 + layer) - 1, 0)


def _with_rows(scores: torch.Tensor, first: int, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores without the marks' -1, and rows: those of the whole picture, then those of the grid, ended by marks."""
    marks = scores < 0
    whole = torch.arange(first, device=scores.device) // side
    grid = marks[first:].long()
    rows = torch.cat([whole, int(whole.max()) + 1 + grid.cumsum(0) - grid])
    return scores.clamp_min(0), rows
