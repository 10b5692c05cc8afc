"""Documents with the bytes of the pictures that a collection keeps, so that they may be stored anywhere."""

from __future__ import annotations

import re
from dataclasses import replace

from mmseek._types import Content, Document, Image
from mmseek.errors import CollectionError
from mmseek.index.assets import asset_name

_KEPT = re.compile(r"assets/[0-9a-f]{2}/[0-9a-f]{64}\.[a-z]+$")


def portable(document: Document) -> Document:
    """The document with the bytes of the pictures that its collection keeps, instead of their places in it."""
    parts = tuple(_bytes_of(part) if isinstance(part, Image) else part for part in document.content.parts)
    return replace(document, content=Content(parts))


def _bytes_of(picture: Image) -> Image:
    if picture.path is None or not _KEPT.search(picture.path.as_posix()):
        return picture
    try:
        data = picture.path.read_bytes()
    except OSError as error:
        raise CollectionError(f"{picture.path} cannot be read ({error.strerror}): see `mmseek verify`") from error
    # A file of the user's own that merely stands in such a place stays a file.
    return replace(picture, path=None, data=data) if asset_name(data).endswith(picture.path.name) else picture
