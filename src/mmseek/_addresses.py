"""How an item names a picture: the path of a file, a `data:` URI with its bytes, or an http(s) URL."""

from __future__ import annotations

import base64
import binascii
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast
from urllib.parse import urlsplit

from mmseek._types import Image
from mmseek.config import MAX_VIDEO_BYTES
from mmseek.errors import ItemError
from mmseek.jsonl import check_text
from mmseek.media import MIME_TYPES, recognise
from mmseek.video import VIDEO_TYPES, recognise_video

__all__ = ["AddressRules", "address_of", "picture_at", "video_at"]

_SCHEME: Final = re.compile(r"data:|[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_DATA_URI: Final = {
    kind: re.compile(rf"data:{kind}/[a-z0-9.+-]+;base64,", re.IGNORECASE) for kind in ("image", "video")
}
_UNPRINTABLE: Final = re.compile(r"[\x00-\x20\x7f]")
_SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class AddressRules:
    """Where pictures may come from: paths under `base` (none at all if it is None), URLs, and how many inline bytes."""

    base: Path | None
    allow_urls: bool
    max_bytes: int
    max_video_bytes: int = MAX_VIDEO_BYTES


def picture_at(address: str, what: str, rules: AddressRules) -> Image:
    """The picture that an address names; neither a file nor a URL is looked at. `what` is the subject of the message.

    Raises:
        ItemError: the address is malformed, or of a kind that the rules refuse.
    """
    scheme = _SCHEME.match(address)
    if scheme is None:
        return Image(path=_path(address, what, rules.base))
    name = scheme[0].lower()
    if name == "data:":
        return Image(data=_inline(address, what, rules.max_bytes))
    if name not in ("http://", "https://"):
        raise ItemError(f"{what} is a {name} address: give a path, a data: URI or an http(s) URL")
    if not rules.allow_urls:
        raise ItemError(f"{what} is a URL, and URLs are not allowed here: save the picture or pass --allow-urls")
    return Image(url=_url(address, what))


def video_at(address: str, what: str, rules: AddressRules) -> Path | bytes:
    """The video that an address names: a path, or the bytes of a `data:` URI. No file is looked at.

    Raises:
        ItemError: the address is malformed, or a URL.
    """
    scheme = _SCHEME.match(address)
    if scheme is None:
        return _path(address, what, rules.base)
    if scheme[0].lower() != "data:":
        raise ItemError(f"{what} is a URL, and videos are not fetched: save it and give its path")
    return _inline(address, what, rules.max_video_bytes, "video")


def address_of(image: Image, relative_to: Path | None) -> str:
    """The address that `picture_at` turns back into this picture, given `relative_to` as its base.

    Raises:
        ItemError: the path is not Unicode text.
    """
    if image.url is not None:
        return image.url
    if image.data is not None:
        if image.frame is None:
            mime = MIME_TYPES.get(recognise(image.data) or "", "image/x-unknown")
        else:
            mime = VIDEO_TYPES.get(recognise_video(image.data) or "", "video/x-unknown")
        return f"data:{mime};base64,{base64.b64encode(image.data).decode('ascii')}"
    path = cast(Path, image.path)
    if relative_to is not None:
        path = path.absolute()
        with suppress(ValueError):
            path = path.relative_to(relative_to.absolute())
    text = path.as_posix()
    try:
        check_text(text)
    except ItemError as error:
        raise ItemError("the path of its picture is not Unicode text: rename the file") from error
    # A file may be called like an address.
    return f"./{text}" if _SCHEME.match(text) else text


def _url(address: str, what: str) -> str:
    try:
        host = urlsplit(address).hostname
    except ValueError:  # an IPv6 address that is none
        host = None
    if not host or _UNPRINTABLE.search(address):
        shown = address if len(address) <= _SHOWN else f"{address[:_SHOWN]}..."
        raise ItemError(f"{what} is not a usable URL: {shown!r}")
    return address


def _path(address: str, what: str, base: Path | None) -> Path:
    if not address:
        raise ItemError(f"{what} must not be empty")
    if "\0" in address:
        raise ItemError(f"{what} is no path: it holds a zero byte")
    if base is None:
        raise ItemError(f"{what} is a path, which is not accepted here: send the picture as a data: URI")
    return base / address


def _inline(address: str, what: str, limit: int, kind: str = "image") -> bytes:
    head = _DATA_URI[kind].match(address)
    if head is None:
        example = "image/png" if kind == "image" else "video/mp4"
        raise ItemError(f"{what} must be a data: URI like data:{example};base64,...")
    # Four characters are three bytes, the last one or two of them perhaps padding.
    size = (len(address) - head.end()) // 4 * 3 - address[-2:].count("=")
    if size > limit:
        thing = "picture" if kind == "image" else kind
        raise ItemError(f"{what} holds {size} bytes, more than the limit of {limit}: make the {thing} smaller")
    try:
        data = base64.b64decode(address[head.end() :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise ItemError(f"{what} is a data: URI whose base64 is broken") from error
    if not data:
        raise ItemError(f"{what} is a data: URI without any byte")
    return data
