"""Pictures as Qwen's vision-language models see them, and the rotary positions of their tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import PIL.Image

from mmseek.errors import MediaError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmseek._types import Image

__all__ = ["Patches", "PixelRange", "flat_positions", "grid_positions", "patches_of", "resized"]

_LONGEST_RATIO: Final = 200


@dataclass(frozen=True, slots=True)
class PixelRange:
    """How many pixels a resized picture may have, both ends included."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Patches:
    """A picture cut up: 8-bit values (patches, 3, side * side) in the model's order, and its visual tokens (h, w)."""

    values: NDArray[np.uint8]
    grid: tuple[int, int]


def resized(picture: PIL.Image.Image, factor: int, allowed: PixelRange, image: Image) -> PIL.Image.Image:
    """Bicubic, to sides that are multiples of `factor`, within the range of pixels, as near to the shape as can be.

    Raises:
        MediaError: one side is more than 200 times the other, which the models' own code refuses too.
    """
    width, height = picture.size
    if max(width, height) > _LONGEST_RATIO * min(width, height):
        raise MediaError(f"{image} is {width} x {height} pixels, which is too long and thin for this model: crop it")
    size = (_nearest(width, factor), _nearest(height, factor))
    if size[0] * size[1] > allowed.most:
        shrink = math.sqrt(width * height / allowed.most)
        size = (_below(width / shrink, factor), _below(height / shrink, factor))
    elif size[0] * size[1] < allowed.least:
        grow = math.sqrt(allowed.least / (width * height))
        size = (math.ceil(width * grow / factor) * factor, math.ceil(height * grow / factor) * factor)
    return picture.resize(size, PIL.Image.Resampling.BICUBIC)


def patches_of(picture: PIL.Image.Image, patch: int, merge: int) -> Patches:
    """Cut an RGB picture into patches; the `merge` x `merge` patches of one visual token stand together.

    Args:
        picture: its sides are multiples of `patch * merge`.
        patch: side of a patch in pixels.
        merge: patches a visual token along each side.
    """
    pixels = np.asarray(picture)
    height, width = pixels.shape[0] // (patch * merge), pixels.shape[1] // (patch * merge)
    cut = pixels.reshape(height, merge, patch, width, merge, patch, 3)
    # (token row, token column, row and column in the token, colour, row and column in the patch)
    ordered = cut.transpose(0, 3, 1, 4, 6, 2, 5)
    return Patches(ordered.reshape(height * width * merge * merge, 3, patch * patch), (height, width))


def flat_positions(count: int) -> NDArray[np.int64]:
    """Every token at its place in the sequence, on all three axes: (3, count)."""
    return np.broadcast_to(np.arange(count, dtype=np.int64), (3, count))


def grid_positions(is_picture: NDArray[np.bool_], grids: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """M-RoPE: text moves on along all three axes, a picture's tokens by row and column; (3, n).

    What follows a picture begins after the longer of its sides.

    Args:
        is_picture: (n,), whether a token is a visual one.
        grids: visual tokens of each picture, in height and width.
    """
    positions = np.empty((3, len(is_picture)), dtype=np.int64)
    place = following = 0
    starts = np.flatnonzero(is_picture)
    for height, width in grids:
        start = int(starts[0])
        positions[:, place:start] = following + np.arange(start - place)
        following += start - place
        rows, columns = np.divmod(np.arange(height * width), width)
        place = start + height * width
        positions[:, start:place] = following + np.stack([np.zeros_like(rows), rows, columns])
        following += max(height, width)
        starts = starts[height * width :]
    positions[:, place:] = following + np.arange(len(is_picture) - place)
    return positions


def _nearest(side: float, factor: int) -> int:
    return max(factor, round(side / factor) * factor)


def _below(side: float, factor: int) -> int:
    return max(factor, math.floor(side / factor) * factor)
