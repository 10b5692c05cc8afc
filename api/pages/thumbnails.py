"""Small copies of pictures, as data: URIs that stand inside a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mmseek.errors import MmseekError
from mmseek.media import open_image

if TYPE_CHECKING:
    import PIL.Image

    from mmseek._types import Image

_SIDE: Final = 400
_FEW_COLOURS: Final = 256


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A small picture. Width and height in pixels let a browser keep its place free."""

    uri: str
    width: int
    height: int


class Thumbnails:
    """Makes thumbnails; a picture that comes again is not made again.

    Args:
        side: the longer side, in pixels.
    """

    def __init__(self, side: int = _SIDE) -> None:
        self._side = side
        self._made: dict[Image, Thumbnail | None] = {}

    def __call__(self, image: Image) -> Thumbnail | None:
        """The thumbnail, or None if the picture cannot be shown."""
        if image not in self._made:
            self._made[image] = self._make(image)
        return self._made[image]

    def _make(self, image: Image) -> Thumbnail | None:
        try:
            picture = open_image(image, target=self._side)
        except MmseekError:
            return None  # the page shows a placeholder: one bad picture never costs the page
        picture.thumbnail((self._side, self._side))
        mime, data = _smallest(picture)
        return Thumbnail(f"data:{mime};base64,{base64.b64encode(data).decode()}", *picture.size)


def _smallest(picture: PIL.Image.Image) -> tuple[str, bytes]:
    """JPEG, or PNG where that is smaller: drawings have few colours."""
    jpeg = _saved(lambda file: picture.save(file, "JPEG", quality=82, optimize=True))
    few = picture.quantize(_FEW_COLOURS) if picture.getcolors(_FEW_COLOURS * 16) else None
    if few is None:
        return "image/jpeg", jpeg
    png = _saved(lambda file: few.save(file, "PNG", optimize=True))
    return ("image/png", png) if len(png) < len(jpeg) else ("image/jpeg", jpeg)


def _saved(save: Callable[[io.BytesIO], None]) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()
