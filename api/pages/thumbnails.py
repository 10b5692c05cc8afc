"""Small copies of pictures: as files, and as data: URIs that stand inside a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mmseek.errors import MmseekError
from mmseek.media import MediaLimits, open_image

if TYPE_CHECKING:
    import PIL.Image

    from mmseek._types import Image

_SIDE: Final = 400
_FEW_COLOURS: Final = 256
_DEFAULT_LIMITS: Final = MediaLimits()


@dataclass(frozen=True, slots=True)
class SmallCopy:
    """A small picture file; width and height in pixels."""

    mime: str
    data: bytes
    width: int
    height: int


def small_copy(image: Image, side: int, *, limits: MediaLimits = _DEFAULT_LIMITS) -> SmallCopy:
    """A copy whose longer side is at most `side` pixels; a picture that is smaller keeps its size.

    Raises:
        MediaError: the picture cannot be used; `MediaNotFound` and `MediaTooLarge` say why.
        UrlRefused: the picture is a URL; nothing is fetched here.
    """
    picture = open_image(image, limits=limits, target=side)
    picture.thumbnail((side, side))
    mime, data = _smallest(picture)
    return SmallCopy(mime, data, *picture.size)


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
            small = small_copy(image, self._side)
        except MmseekError:
            return None  # the page shows a placeholder: one bad picture never costs the page
        return Thumbnail(f"data:{small.mime};base64,{base64.b64encode(small.data).decode()}", small.width, small.height)


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
