"""Phi-3.5-V, put together from modules of transformers, so that no code of a checkpoint has to run.

A picture is resized to as many tiles as `num_crops` allows, kept in shape and filled up with white, and seen as its
tiles and once as a whole, one tile itself. Of the tower's states every 2 x 2 stand together; a learned mark ends each
line of them, and another stands between the tiles and the whole (after microsoft/Phi-3.5-vision-instruct).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import PIL.Image
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from mmseek.embed.parts import Weights, clip_vision_sizes, fill, under
from mmseek.errors import ModelError
from mmseek.models.checkpoints import json_object, weight_files
from mmseek.models.device import pick_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Phi3V", "Tiled", "read_phi3_v", "tiled"]

CONFIG: Final = "config.json"
_VISION: Final = "model.vision_embed_tokens."
_TOWER: Final = ("img_processor.vision_model.", "img_processor.")
# Of the language model's configuration: what transformers would read as code or as another model.
_NOT_ITS_OWN: Final = (
    "auto_map",
    "architectures",
    "model_type",
    "img_processor",
    "embd_layer",
    "_attn_implementation",
)


@dataclass(frozen=True, slots=True)
class Tiled:
    """A resized picture, 8-bit (height, width, 3), both sides multiples of a tile's."""

    pixels: NDArray[np.uint8]


def tiled(picture: PIL.Image.Image, side: int, crops: int) -> Tiled:
    """As large as fits into `crops` tiles, without changing the shape, and white above and below (or beside).

    Args:
        picture: RGB.
        side: of a tile, in pixels.
        crops: the most tiles.
    """
    upright = picture.width < picture.height
    if upright:
        picture = picture.transpose(PIL.Image.Transpose.TRANSPOSE)
    ratio = picture.width / picture.height
    columns = 1
    while (columns + 1) * math.ceil((columns + 1) / ratio) <= crops:
        columns += 1
    width = columns * side
    height = max(1, int(width / ratio))
    picture = picture.resize((width, height), PIL.Image.Resampling.BILINEAR)
    whole = PIL.Image.new("RGB", (width, math.ceil(height / side) * side), "white")
    whole.paste(picture, (0, (whole.height - height) // 2))
    if upright:
        whole = whole.transpose(PIL.Image.Transpose.TRANSPOSE)
    return Tiled(np.asarray(whole))


class Phi3V(torch.nn.Module):
    """The language model with its eyes; without a head.

    Args:
        language: transformers' `Phi3Model`.
        tower: transformers' `CLIPVisionModel`.
        projection: from four states of the tower to one of the language model.
        line_end: the mark at the end of a line, (4 * d,).
        divider: the mark between tiles and whole, (4 * d,).
        layer: whose states of the tower are taken.
    """

    language: Any
    tower: Any
    projection: Any
    line_end: torch.Tensor
    divider: torch.Tensor

    def __init__(
        self,
        language: Any,
        tower: Any,
        projection: torch.nn.Module,
        line_end: torch.Tensor,
        divider: torch.Tensor,
        *,
        layer: int,
    ) -> None:
        super().__init__()
        self.language, self.tower, self.projection = language, tower, projection
        self.register_buffer("line_end", line_end.reshape(-1))
        self.register_buffer("divider", divider.reshape(-1))
        self.layer = layer
        self.side: int = int(tower.config.image_size)
        # States along a tile's side, after 2 x 2 were brought together.
        self.grid: int = self.side // int(tower.config.patch_size) // 2

    def states_of(self, picture: Tiled) -> int:
        """How many states a picture has."""
        height, width = (int(length) // self.side for length in picture.pixels.shape[:2])
        return (height * width + 1) * self.grid**2 + 1 + (height + 1) * self.grid

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        use_cache: bool = False,  # as transformers' models are called
        pictures: torch.Tensor | None = None,
        is_picture: torch.Tensor | None = None,
    ) -> Any:
        """The language model's output over tokens (n, length).

        Args:
            input_ids: (n, length); what stands at a picture's places is not looked up.
            attention_mask: (n, length).
            use_cache: see transformers.
            pictures: the states of all pictures in order, (states, d), from `look`; None without pictures.
            is_picture: (n, length), where those go.
        """
        inputs = self.language.embed_tokens(input_ids)
        if pictures is not None and is_picture is not None:
            inputs = inputs.masked_scatter(is_picture[..., None], pictures.to(inputs.dtype))
        return self.language(inputs_embeds=inputs, attention_mask=attention_mask, use_cache=use_cache)

    def look(self, pictures: Sequence[Tiled], mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
        """What the language model gets of pictures: (states, d), one after another."""
        return torch.cat([self._look(picture, mean, std) for picture in pictures])

    def _look(self, picture: Tiled, mean: Sequence[float], std: Sequence[float]) -> torch.Tensor:
        device, dtype, side = self.divider.device, self.divider.dtype, self.side
        pixels = torch.from_numpy(picture.pixels.copy()).to(device).permute(2, 0, 1).float() / 255
        shape = (3, 1, 1)
        pixels = (pixels - torch.tensor(mean, device=device).view(shape)) / torch.tensor(std, device=device).view(shape)
        rows, columns = pixels.shape[1] // side, pixels.shape[2] // side
        whole = torch.nn.functional.interpolate(pixels[None], size=(side, side), mode="bicubic")
        tiles = pixels.view(3, rows, side, columns, side).permute(1, 3, 0, 2, 4).reshape(-1, 3, side, side)
        seen = self.tower(torch.cat([whole, tiles]).to(dtype), output_hidden_states=True).hidden_states[self.layer]
        seen = seen[:, 1:]
        lines = [self._lines(seen[1:], rows, columns), self.divider[None], self._lines(seen[:1], 1, 1)]
        found: torch.Tensor = self.projection(torch.cat(lines))
        return found

    def _lines(self, seen: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
        """States of tiles (t, patches, d) -> of the picture, line by line with its mark: (states, 4 * d)."""
        grid, dim = self.grid, seen.shape[-1]
        # (tile row, tile column, row, upper or lower, column, left or right, d)
        cut = seen.reshape(rows, columns, grid, 2, grid, 2, dim)
        lines = cut.permute(0, 2, 1, 4, 3, 5, 6).reshape(rows * grid, columns * grid, 4 * dim)
        ends = self.line_end.expand(len(lines), 1, -1)
        return torch.cat([lines, ends], dim=1).flatten(0, 1)


def read_phi3_v(folder: Path, device: str) -> Phi3V:
    """The weights in their modules: float32, on CUDA bfloat16.

    Raises:
        ModelError: weights are missing, of other sizes, or the configuration asks for something else.
    """
    from transformers import CLIPVisionConfig, CLIPVisionModel, Phi3Config, Phi3Model

    config = json_object(folder / CONFIG)
    layer = config.get("embd_layer")
    wanted = {"use_hd_transform": True, "hd_transform_order": "sub_glb", "projection_cls": "mlp"}
    if not isinstance(layer, dict) or any(layer.get(key) != value for key, value in wanted.items()):
        raise ModelError(f"{folder / CONFIG} has no embd_layer as Phi-3.5-V's is: get the checkpoint again")
    try:
        weights = {name: value for path in weight_files(folder) for name, value in load_file(path).items()}
        eyes, text = under(weights, _VISION), under(weights, "model.")
        # One embedding under two names, of which a file has the one or the other.
        text.setdefault("embed_tokens.weight", text.get("vision_embed_tokens.wte.weight", torch.empty(0)))
        language = Phi3Model._from_config(Phi3Config(**_language(config)), attn_implementation="sdpa")  # noqa: SLF001  # no public one
        tower_weights = under(eyes, *_TOWER)
        tower = CLIPVisionModel(CLIPVisionConfig(**clip_vision_sizes(tower_weights)))
        projection = _projection(eyes)
        fill(language, text, "model.", folder)
        fill(tower, tower_weights, f"{_VISION}img_processor.", folder)
        fill(projection, under(eyes, "img_projection."), f"{_VISION}img_projection.", folder)
        chosen = int((config.get("img_processor") or {}).get("layer_idx", -2))
        model = Phi3V(language, tower, projection, eyes["sub_GN"], eyes["glb_GN"], layer=chosen)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{folder} cannot be loaded ({type(error).__name__}: {reason}): get it again") from error
    dtype = pick_dtype(device)
    return model.to(device, dtype).eval().requires_grad_(requires_grad=False)


def _language(config: Mapping[str, Any]) -> dict[str, Any]:
    """The language model's own part of the configuration, in today's words."""
    own = {key: value for key, value in config.items() if key not in _NOT_ITS_OWN}
    scaling = own.get("rope_scaling")
    if isinstance(scaling, dict) and scaling.get("type") in ("su", "longrope"):
        first = own.get("original_max_position_embeddings")
        own["rope_scaling"] = {**scaling, "rope_type": "longrope", "original_max_position_embeddings": first}
        own["rope_scaling"].pop("type")
    return own


def _projection(eyes: Weights) -> torch.nn.Sequential:
    first, second = eyes["img_projection.0.weight"], eyes["img_projection.2.weight"]
    return torch.nn.Sequential(
        torch.nn.Linear(first.shape[1], len(first)), torch.nn.GELU(), torch.nn.Linear(second.shape[1], len(second))
    )
