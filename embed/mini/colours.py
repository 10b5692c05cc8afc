"""How the colours of a picture are spread: what a small network of grey-looking features hardly keeps."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

__all__ = ["COLOURS", "colours"]

_HUES, _SHADES = 12, 3
_BINS: Final = _HUES * _SHADES * _SHADES
# Two histograms, of the whole picture and of its inner half.
COLOURS: Final = 2 * _BINS


def colours(pictures: Tensor) -> Tensor:
    """Pictures `(n, S, S, 3)` of 0..255 -> square roots of the shares of 108 colours, whole and inner half: `(n, 216)`.

    Hue in 12 steps, saturation and value in 3 (Smith 1978's HSV). With square roots, the dot product of two such halves
    is their Bhattacharyya coefficient: 1 for the same spread of colours.
    """
    size = pictures.shape[1]
    inner = slice(size // 4, size - size // 4)
    bins = _bins(pictures.float() / 255)
    return torch.cat([_shares(bins), _shares(bins[:, inner, inner])], dim=1)


def _bins(pictures: Tensor) -> Tensor:
    """The number of each pixel's colour, int64 (n, S, S)."""
    light, brightest = pictures.max(dim=-1)
    spread = light - pictures.amin(dim=-1)
    red, green, blue = pictures.unbind(-1)
    some = spread.clamp(min=1e-6)
    sixths = torch.stack([(green - blue) / some % 6, (blue - red) / some + 2, (red - green) / some + 4], dim=-1)
    hue = sixths.gather(-1, brightest[..., None])[..., 0] / 6
    hue = torch.where(spread > 0, hue, torch.zeros_like(hue))
    shade = torch.where(light > 0, spread / light.clamp(min=1e-6), torch.zeros_like(light))
    steps = [_step(hue, _HUES), _step(shade, _SHADES), _step(light, _SHADES)]
    return (steps[0] * _SHADES + steps[1]) * _SHADES + steps[2]


def _step(share: Tensor, steps: int) -> Tensor:
    # A share of 1 falls into the last step; the small number keeps rounding from moving even fractions a step down.
    return (share * steps + 1e-4).long().clamp(0, steps - 1)


def _shares(bins: Tensor) -> Tensor:
    flat = bins.flatten(1)
    # Made of `flat` and not of its length, which a converted model would keep as a constant.
    counts = torch.zeros_like(flat[:, :1], dtype=torch.float32).repeat(1, _BINS)
    counts = counts.scatter_add(1, flat, torch.ones_like(flat, dtype=counts.dtype))
    return (counts / max(flat.shape[1], 1)).sqrt()
