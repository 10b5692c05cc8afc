"""What the towers of `mini` see of texts and pictures, beyond the one vector: for scoring pairs a second time.

Of a picture that is its tower's features (640), how its colours are spread (216) and its vector (384); of a text, its
word pieces and its vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from mmseek.embed.mini.colours import COLOURS, colours
from mmseek.embed.mini.encoder import fingerprint
from mmseek.embed.mini.pictures import TOWER_FILE
from mmseek.embed.mini.text import TextTower
from mmseek.embed.mini.tower import ImageTower, load_tower, preprocess
from mmseek.media import MediaLimits, open_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmseek._types import FloatArray, Image

    Pixels: TypeAlias = NDArray[np.uint8]

__all__ = ["MiniLook"]


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
        pixels = torch.from_numpy(np.stack(pictures))
        seen = self._tower.outputs(pixels)
        looks: FloatArray = torch.cat([seen.features, colours(pixels), seen.embedding], dim=1).float().numpy()
        return looks

    @torch.inference_mode()
    def compose(self, picture: FloatArray, text: FloatArray) -> FloatArray:
        """The vector (384,) to search with for a picture's and a text's vector, (384,) each, all L2-normalised."""
        composed = self._tower.compose(torch.from_numpy(picture)[None], torch.from_numpy(text)[None])
        found: FloatArray = composed[0].numpy()
        return found
