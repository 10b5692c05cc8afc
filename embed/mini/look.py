"""What the towers of `mini` see of texts and pictures, beyond the one vector: for scoring pairs a second time.

Of a picture that is its tower's features (640), how its colours are spread (216) and its vector (384); of a text, its
word pieces and its vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import PIL.Image
import torch

from mmseek.embed.mini.encoder import fingerprint
from mmseek.embed.mini.pictures import TOWER_FILE
from mmseek.embed.mini.text import TextTower
from mmseek.embed.mini.tower import ImageTower, load_tower, preprocess
from mmseek.media import MediaLimits, open_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmseek._types import FloatArray, Image

    Pixels: TypeAlias = NDArray[np.uint8]

__all__ = ["COLOURS", "MiniLook", "colours"]

_HUES, _SHADES = 12, 3
# Two histograms, of the whole picture and of its inner half.
COLOURS: Final = 2 * _HUES * _SHADES * _SHADES


class MiniLook:
    """Texts and pictures -> what a scorer of pairs is given. Thread-safe.

    Args:
        text: the text tower.
        tower: the image tower, with all its outputs.
        limits: of pictures.
    """

    def __init__(self, text: TextTower, tower: ImageTower, limits: MediaLimits | None = None) -> None:
        self._text = text
        self._tower = tower
        self._limits = limits or MediaLimits()
        self.picture_size = tower.config.features + COLOURS + tower.config.dim

    @property
    def fingerprint(self) -> str:
        """That of the `mini` encoder."""
        return fingerprint(TOWER_FILE)

    @classmethod
    def load(cls, folder: Path | None = None, limits: MediaLimits | None = None) -> MiniLook:
        """From the shipped weights and all-MiniLM-L6-v2, in `folder` or wherever it is found.

        Raises:
            ModelError: the text model is not found, or is another one.
        """
        return cls(TextTower(folder), load_tower(TOWER_FILE), limits)

    def pieces(self, text: str) -> list[int]:
        """The numbers of at most 256 word pieces, the first and the last being marks."""
        return self._text.tokenize(text)

    def pixels(self, image: Image) -> Pixels:
        """A picture at the tower's size, uint8 (S, S, 3).

        Raises:
            MediaError: the picture cannot be used.
        """
        size = self._tower.config.size
        return preprocess(open_image(image, limits=self._limits, target=2 * size), size)

    def texts(self, texts: Sequence[Sequence[int]]) -> FloatArray:
        """Vectors (n, 384) of word pieces, L2-normalised."""
        return self._text(texts)

    @torch.inference_mode()
    def pictures(self, pictures: Sequence[Pixels]) -> FloatArray:
        """Features, colours and vectors (n, 1240), one beside the other; the vector is the last 384."""
        seen = self._tower.outputs(torch.from_numpy(np.stack(pictures)))
        spread = torch.from_numpy(np.stack([colours(picture) for picture in pictures]))
        looks: FloatArray = torch.cat([seen.features, spread, seen.embedding], dim=1).float().numpy()
        return looks


def colours(picture: Pixels) -> FloatArray:
    """Square roots of the shares of 108 colours, in the whole picture and in its inner half: float32 (216,).

    Hue in 12 steps, saturation and value in 3. With square roots, the dot product of two such halves is their
    Bhattacharyya coefficient: 1 for the same spread of colours.
    """
    hsv = np.asarray(PIL.Image.fromarray(picture).convert("HSV"), dtype=np.int64)
    hue, shade, light = hsv[..., 0] * _HUES // 256, hsv[..., 1] * _SHADES // 256, hsv[..., 2] * _SHADES // 256
    bins = (hue * _SHADES + shade) * _SHADES + light
    size = picture.shape[0]
    inner = slice(size // 4, size - size // 4)
    halves = [
        np.sqrt(np.bincount(part.ravel(), minlength=COLOURS // 2) / part.size) for part in (bins, bins[inner, inner])
    ]
    return np.concatenate(halves).astype(np.float32)
