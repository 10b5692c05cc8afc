"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL as backbones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from mmseek.models.qwen_vl_inputs import PixelRange, grid_positions, patches_of, resized
from mmseek.models.vlm import colours, picture_settings
from mmseek.rerank.mllm.backbone import Backbone, Picture, Seen

if TYPE_CHECKING:
    import PIL.Image
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from mmseek._types import Image

__all__ = ["CLASSES", "IMAGE_TOKEN", "QwenBackbone"]

IMAGE_TOKEN: Final = "<|image_pad|>"  # noqa: S105 - a token of text
CLASSES: Final = {
    "qwen2_vl": "Qwen2VLForConditionalGeneration",
    "qwen2_5_vl": "Qwen2_5_VLForConditionalGeneration",
    "qwen3_vl": "Qwen3VLForConditionalGeneration",
}


class _Stills(torch.nn.Module):
    """Embeds patches of one frame. `proj` has the name that the tower knows it by."""

    def __init__(self, proj: torch.nn.Linear) -> None:
        super().__init__()
        self.proj = proj

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        """Patches (n, 3 * side * side) to states (n, dim)."""
        states: torch.Tensor = self.proj(patches)
        return states


class QwenBackbone(Backbone):
    """A Qwen-VL model. Pictures keep their shape and have as many tokens as their size asks for.

    Args:
        model: of transformers, with its head.
        tokenizer: of the checkpoint.
        device: where the model is.
        folder: of the checkpoint.
        pixels: how many a resized picture may have; None takes the checkpoint's own range.
    """

    def __init__(
        self, model: Any, tokenizer: Tokenizer, device: str, folder: Path, *, pixels: PixelRange | None = None
    ) -> None:
        super().__init__(
            model,
            tokenizer,
            device,
            picture_mark=IMAGE_TOKEN,
            marks=("<|vision_start|>", "<|vision_end|>"),
            folder=folder,
        )
        vision = model.config.vision_config
        self._patch, self._merge = vision.patch_size, vision.spatial_merge_size
        _see_stills(self.body.visual)
        file, settings = picture_settings(folder)
        self._mean, self._std = colours(settings, "image_mean", file), colours(settings, "image_std", file)
        self._pixels = pixels or _own_range(settings, self._patch * self._merge)

    def prepare(self, picture: PIL.Image.Image, image: Image, key: bytes) -> Picture:
        """Patches, with sides that are multiples of what one visual token covers."""
        fitted = resized(picture, self._patch * self._merge, self._pixels, image)
        patches = patches_of(fitted, self._patch, self._merge)
        height, width = patches.grid
        return Picture(key, height * width, patches.grid, patches.values)

    def see(self, pictures: Sequence[Picture]) -> list[Seen]:
        """All pictures in one pass."""
        values = torch.from_numpy(np.concatenate([picture.pixels for picture in pictures])).to(self.device)
        mean = torch.tensor(self._mean, device=self.device).view(1, 3, 1)
        std = torch.tensor(self._std, device=self.device).view(1, 3, 1)
        pixels = values.float().mul_(1 / 255).sub_(mean).div_(std)
        grids = [(1, height * self._merge, width * self._merge) for height, width in (p.grid for p in pictures)]
        out = self.body.get_image_features(
            pixels.reshape(len(pixels), -1).to(self.model.dtype),
            torch.tensor(grids, device=self.device),
            return_dict=True,
        )
        deeper = getattr(out, "deepstack_features", None) or []
        # Copies, for a slice would keep the whole batch in memory.
        return [
            Seen(states.clone(), tuple(layer[place].clone() for layer in deeper), picture.grid)
            for place, (states, picture) in enumerate(zip(out.pooler_output, pictures, strict=True))
        ]

    def positions(self, is_picture: NDArray[np.bool_], grids: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
        """M-RoPE: time, height and width, (3, n)."""
        return grid_positions(is_picture, grids)

    def deeper(self, masks: torch.Tensor, seen: Sequence[Seen]) -> dict[str, Any]:
        """Qwen3-VL's DeepStack; nothing for the others."""
        if not seen or not seen[0].deeper:
            return {}
        layers = zip(*(each.deeper for each in seen), strict=True)
        return {"visual_pos_masks": masks, "deepstack_visual_embeds": [torch.cat(layer) for layer in layers]}


def _see_stills(tower: Any) -> None:
    """Let a vision tower take patches of one frame.

    A still picture is a film of equal frames, so the convolution's weights can be added up over the frames once: half
    of the numbers, and a product of two matrices in place of a convolution.
    """
    convolution = tower.patch_embed.proj
    weight = convolution.weight.detach().float().sum(dim=2).flatten(1)
    still = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=convolution.bias is not None)
    still.to(convolution.weight.device, convolution.weight.dtype)
    with torch.no_grad():
        still.weight.copy_(weight)
        if convolution.bias is not None:
            still.bias.copy_(convolution.bias)
    tower.patch_embed = _Stills(still)


def _own_range(settings: dict[str, Any], side: int) -> PixelRange:
    """The range of pixels that a checkpoint's own processor keeps to."""
    size = settings.get("size")
    size = size if isinstance(size, dict) else {}
    least = settings.get("min_pixels") or size.get("shortest_edge") or 4 * side**2
    most = settings.get("max_pixels") or size.get("longest_edge") or 16384 * side**2
    return PixelRange(int(least), int(most))
