"""The words in a picture, by RapidOCR: PP-OCR networks on ONNX Runtime that come inside the package, so no network.

PP-OCR: arXiv 2009.09941. Lines come from top to bottom; what stands side by side is joined by a blank.
"""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from collections import OrderedDict
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from mmseek.errors import ItemError, MissingExtra
from mmseek.media import open_image, read_bytes

if TYPE_CHECKING:
    import PIL.Image

    from mmseek._types import Image
    from mmseek.media import MediaLimits

__all__ = ["OCR_RECIPE", "OcrMode", "check_ocr", "new_lines", "recognised"]

OcrMode: TypeAlias = Literal["never", "auto", "always"]

LONG_SIDE: Final = 1600  # pixels that are looked at; larger pictures are made smaller
_FOUND_AT: Final = 1280  # pixels in which lines are looked for; they are read in the picture itself
OCR_RECIPE: Final = f"ocr 1 {LONG_SIDE} {_FOUND_AT}"  # of how words are read; another one reads everything anew

_MOST_KNOWN: Final = 256  # pictures whose words are remembered: a logo stands on every slide, a page is captioned too

_lock = threading.Lock()  # the networks are used by one thread at a time, and use all cores
_known: OrderedDict[bytes, str] = OrderedDict()  # SHA-256 of a picture's bytes -> its words; with the lock


def check_ocr() -> None:
    """Raise MissingExtra unless words can be read."""
    if any(importlib.util.find_spec(name) is None for name in ("rapidocr", "onnxruntime")):
        raise MissingExtra("reading the words in pictures", "ocr")


def recognised(image: Image, limits: MediaLimits) -> str:
    """The words in a picture, a line a line; empty if there are none.

    Raises:
        MediaError: the picture cannot be decoded.
        MissingExtra: the libraries for it are not installed.
        ItemError: the networks fail on it.
    """
    key = hashlib.sha256(read_bytes(image, limits)).digest()
    with _lock:
        if (text := _known.get(key)) is not None:
            _known.move_to_end(key)
            return text
    text = _read(open_image(image, limits=limits, target=LONG_SIDE))
    with _lock:
        _known[key] = text
        if len(_known) > _MOST_KNOWN:
            _known.popitem(last=False)
    return text


def new_lines(known: str, read: str) -> str:
    """The lines of `read` that do not stand in `known`, whatever the white space and case."""
    have = _squeezed(known)
    return "\n".join(line for line in read.splitlines() if _squeezed(line) not in have)


def _squeezed(text: str) -> str:
    return "".join(text.split()).casefold()


def _read(picture: PIL.Image.Image) -> str:
    import numpy as np

    if min(picture.size) < 8:
        return ""
    picture.thumbnail((LONG_SIDE, LONG_SIDE))
    with _lock:
        engine = _engine()
        try:
            found = engine(np.asarray(picture)[:, :, ::-1], use_cls=False)
        except Exception as error:  # whatever its parts raise means this
            raise ItemError("the words in its picture cannot be read: index it with --ocr never") from error
    if not found.txts:
        return ""
    return _lines([(box[:, 1].min(), box[:, 1].max(), text) for box, text in zip(found.boxes, found.txts, strict=True)])


def _lines(found: list[tuple[float, float, str]]) -> str:
    """Texts (top, bottom, words) in reading order, those that overlap by half their height on one line."""
    rows: list[list[str]] = []
    above: tuple[float, float] | None = None
    for top, bottom, text in found:
        if above is not None and min(bottom, above[1]) - max(top, above[0]) > (bottom - top) / 2:
            rows[-1].append(text)
        else:
            rows.append([text])
            above = (top, bottom)
    return "\n".join(" ".join(row) for row in rows).strip()


@cache
def _engine() -> Any:
    check_ocr()
    from rapidocr import RapidOCR

    from mmseek.models.device import usable_cores

    return RapidOCR(
        params={
            "Global.log_level": "critical",
            "EngineConfig.onnxruntime.intra_op_num_threads": usable_cores(),
            # By default small pictures are made large, and wide ones enormous.
            "Det.limit_type": "max",
            "Det.limit_side_len": _FOUND_AT,
        }
    )
