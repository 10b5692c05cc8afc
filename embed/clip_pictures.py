"""CLIP's picture preprocessing with Pillow alone: resize, crop the centre; the tower scales and standardises.

Torchvision's resize, which transformers 5 takes by default, differs from Pillow's by up to 4e-4 in the vectors, and the
models were trained with Pillow's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import PIL.Image

from mmseek.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels: TypeAlias = NDArray[np.uint8]

__all__ = ["ClipPictures"]

_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
_STD: Final = (0.26862954, 0.26130258, 0.27577711)
# Longer ones would fill the memory with what the crop throws away.
_LONGEST: Final = 64


@dataclass(frozen=True, slots=True)
class ClipPictures:
    """How a picture becomes what the tower takes.

    Args:
        size: the side of the square that is left, in pixels.
        mean: of the colours, from 0 to 1, that is subtracted.
        std: of the colours, by which is divided.
        resample: Pillow's number of the filter; 3 is bicubic.
        squash: resize to the square at once, without keeping the shape.
        round_offset: where the margin is odd, round half of it to the even number, as torchvision does and with it
            OpenAI's code; else round it down, as transformers does. It moves the crop by one pixel.
    """

    size: int
    mean: tuple[float, ...] = _MEAN
    std: tuple[float, ...] = _STD
    resample: int = 3
    squash: bool = False
    round_offset: bool = False

    def __call__(self, picture: PIL.Image.Image) -> Pixels:
        """RGB picture -> uint8 (size, size, 3)."""
        if not self.squash:
            picture = _middle(picture)
        width, height = picture.size
        short, long = min(width, height), max(width, height)
        if self.squash:
            new = (self.size, self.size)
        else:
            length = int(self.size * long / short)
            new = (self.size, length) if width <= height else (length, self.size)
        if new != picture.size:
            picture = picture.resize(new, PIL.Image.Resampling(self.resample))
        left, top = (self._offset(side) for side in picture.size)
        return np.asarray(picture.crop((left, top, left + self.size, top + self.size)))

    def _offset(self, side: int) -> int:
        margin = side - self.size
        return round(margin / 2) if self.round_offset else margin // 2

    @classmethod
    def from_config(cls, config: Mapping[str, Any], *, size: int, round_offset: bool) -> ClipPictures:
        """As `preprocessor_config.json` says, for a tower of `size` pixels.

        Raises:
            ModelError: it asks for something else than CLIP's steps.
        """
        wanted = config.get("size", size)
        if isinstance(wanted, int):
            wanted = {"shortest_edge": wanted}
        crop = config.get("crop_size", size)
        crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
        squash = set(wanted) == {"height", "width"}
        sizes = {*wanted.values(), *(crop.values() if config.get("do_center_crop", True) else ())}
        steps = all(config.get(step, True) for step in ("do_resize", "do_rescale", "do_normalize"))
        plain = config.get("do_center_crop", True) or squash
        scale = abs(float(config.get("rescale_factor", 1 / 255)) - 1 / 255) < 1e-6
        if sizes != {size} or not (steps and plain and scale) or not (squash or set(wanted) == {"shortest_edge"}):
            raise ModelError(
                f"preprocessor_config.json does not ask for pictures of {size} x {size} pixels in CLIP's steps "
                "(resize, crop, scale, standardise): this family cannot follow it"
            )
        return cls(
            size=size,
            mean=tuple(config.get("image_mean", _MEAN)),
            std=tuple(config.get("image_std", _STD)),
            resample=int(config.get("resample", 3)),
            squash=squash,
            round_offset=round_offset,
        )


def _middle(picture: PIL.Image.Image) -> PIL.Image.Image:
    """The picture, or the middle of one whose longer side is more than 64 times the shorter."""
    most = _LONGEST * min(picture.size)
    if max(picture.size) <= most:
        return picture
    width, height = (min(side, most) for side in picture.size)
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    return picture.crop((left, top, left + width, top + height))
