"""The picture side of `mini`: file -> pixels (in threads) -> image tower -> vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import torch

from mmseek.errors import ModelError
from mmseek.media import MediaLimits, open_image

if TYPE_CHECKING:
    import PIL.Image
    from numpy.typing import NDArray

    from mmseek._types import FloatArray, Image

    Pixels: TypeAlias = NDArray[np.uint8]

__all__ = ["TOWER_FILE", "PictureTower"]

TOWER_FILE: Final = Path(__file__).with_name("image_tower.safetensors")


class PictureTower:
    """Pictures -> vectors `(n, 384)`, float32, L2-normalised.

    Args:
        tower: uint8 `(n, S, S, 3)` -> float32 `(n, 384)`.
        preprocess: RGB picture -> uint8 `(S, S, 3)`.
        size: S, in pixels.
        device: where the tower runs.
    """

    def __init__(
        self,
        tower: Callable[[torch.Tensor], torch.Tensor],
        preprocess: Callable[[PIL.Image.Image], Pixels],
        *,
        size: int,
        device: str = "cpu",
    ) -> None:
        self._tower = tower
        self._preprocess = preprocess
        self.size = size
        self._device = device

    @property
    def module(self) -> Callable[[torch.Tensor], torch.Tensor]:
        """What the pictures go through; `ImageTower` if it was loaded from weights."""
        return self._tower

    @property
    def preprocess(self) -> Callable[[PIL.Image.Image], Pixels]:
        """RGB picture -> uint8 `(S, S, 3)`."""
        return self._preprocess

    @classmethod
    def load(cls, path: Path = TOWER_FILE, *, device: str = "cpu") -> PictureTower:
        """The trained tower.

        Raises:
            ModelError: the weights are missing, damaged, or of a version that this mmseek does not read.
        """
        from mmseek.embed.mini.tower import load_tower, preprocess

        try:
            tower: Any = load_tower(path)
        except Exception as error:  # safetensors, JSON and torch each raise their own
            raise ModelError(
                f"the image tower {path} cannot be loaded ({type(error).__name__}: {error}): install mmseek anew"
            ) from error
        size: int = tower.config.size
        return cls(tower.to(device), lambda picture: preprocess(picture, size), size=size, device=device)

    def prepare(self, image: Image, limits: MediaLimits) -> Pixels:
        """Decode a picture, no larger than the tower needs, and bring it to the tower's size.

        Raises:
            MediaError: the picture cannot be used.
        """
        # Twice the size, as the tower's own preprocessing asks of JPEG, so that shrinking has something to average. The
        # vectors differ from those of the JPEG decoded whole, by a cosine of 0.9998 or more on four photographs.
        return self._preprocess(open_image(image, limits=limits, target=2 * self.size))

    @torch.inference_mode()
    def __call__(self, pictures: Sequence[Pixels]) -> FloatArray:
        """Vectors of prepared pictures."""
        batch = torch.from_numpy(np.stack(pictures)).to(self._device)
        vectors: FloatArray = self._tower(batch).float().cpu().numpy()
        return vectors

    @torch.inference_mode()
    def compose(self, picture: FloatArray, text: FloatArray) -> FloatArray | None:
        """What to search with for a picture's and a text's vector (384,); None if the tower has not learned it."""
        fusion = getattr(self._tower, "fusion", None)
        if fusion is None:
            return None
        both = [torch.from_numpy(vector.astype("float32"))[None].to(self._device) for vector in (picture, text)]
        composed: FloatArray = fusion(*both)[0].float().cpu().numpy()
        return composed
