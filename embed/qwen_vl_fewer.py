"""Qwen's vision-language models with fewer visual tokens: the tower sees all, the language model reads what is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from mmseek.models.significance import QwenSignificance
from mmseek.models.token_reduction import Reduced, Row, merged, pruned, read

if TYPE_CHECKING:
    from mmseek.embed.qwen_vl import Checkpoint, PaddingSide, Sequence1D
    from mmseek.models.qwen_vl_inputs import Patches
    from mmseek.models.visual_tokens import VisualTokens

__all__ = ["FewerTokens"]


class FewerTokens:
    """Thread-safe.

    Args:
        checkpoint: the loaded model; its `fewer` says how many.
        visual: what the model reads of pictures, by name.
    """

    def __init__(self, checkpoint: Checkpoint, visual: Callable[[Sequence[Patches]], dict[str, Any]]) -> None:
        assert checkpoint.fewer is not None
        self._fewer: VisualTokens = checkpoint.fewer
        self._checkpoint = checkpoint
        self._visual = visual
        model = checkpoint.model
        self._significance = None if self._fewer.method == "merge" else QwenSignificance(model.visual)
        self._deepstack = hasattr(model.config.vision_config, "deepstack_visual_indexes")

    def states(self, payloads: Sequence[Sequence1D], padding: PaddingSide) -> list[torch.Tensor]:
        """The last layer's states of the tokens that are read of each sequence, each (tokens, d)."""
        pictures = [picture for payload in payloads for picture in payload.pictures]
        seen = iter(self._see(pictures))
        rows = [
            Row(
                tokens=payload.tokens,
                positions=payload.positions,
                is_picture=payload.tokens == self._checkpoint.image_token,
                pictures=[next(seen) for _ in payload.pictures],
                sizes=[picture.grid[0] * picture.grid[1] for picture in payload.pictures],
            )
            for payload in payloads
        ]
        model, device = self._checkpoint.model, self._checkpoint.device
        return read(model, rows, device, left=padding == "left", deepstack=self._deepstack)

    def _see(self, pictures: Sequence[Patches]) -> list[Reduced]:
        """What is left of each picture; all go through the tower at once."""
        inputs, model = self._visual(pictures), self._checkpoint.model
        pixels, grids = inputs["pixel_values"], inputs["image_grid_thw"]
        if self._significance is None:
            out, scores = model.get_image_features(pixels, grids, return_dict=True), []
        else:
            with self._significance.look() as noted:
                out = model.get_image_features(pixels, grids, return_dict=True)
            scores = self._significance.scores(noted, grids)
        layers = getattr(out, "deepstack_features", None) or []
        left = []
        for place, (states, picture) in enumerate(zip(out.pooler_output, pictures, strict=True)):
            deeper = [layer[place] for layer in layers]
            count = self._fewer.kept(len(states))
            if self._significance is None:
                left.append(merged(states, deeper, count))
                continue
            rows = torch.arange(len(states), device=states.device) // picture.grid[1]
            by_row = rows if self._fewer.method == "rows" else None
            left.append(pruned(states, deeper, count, scores[place], by_row))
        return left
