"""A document as one row of the store, and back.

The row's content is JSON: a list of parts, `{"text": ...}`, `{"path": ...}` (a picture left where it is),
`{"asset": ...}` (a picture kept by the collection) or `{"url": ...}`. Unlike the short form of items it keeps the
order and number of parts.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from mmseek._types import Content, Document, Image, Part, Text
from mmseek.errors import CorruptCollection, InputError
from mmseek.index.assets import asset_name

MAX_ID_BYTES = 1024
_SURROGATE = re.compile("[\ud800-\udfff]")


class Places(Protocol):
    """Where the pictures are that a collection keeps."""

    def path(self, name: str) -> Path: ...


class Record(NamedTuple):
    """One row of the table of documents, in the order of its columns."""

    row: int
    id: str
    item: str
    modality: str
    parent_id: str | None
    digest: str | None
    checksum: bytes


def encode(row: int, document: Document, digest: str | None) -> Record:
    """The row of a document.

    Raises:
        InputError: its id or metadata cannot be stored; names the id.
    """
    check_id(document.id)
    if document.parent_id is not None:
        check_id(document.parent_id, "the parent id")
    item = _to_json(
        {"content": [_part_to_json(part) for part in document.content.parts], "metadata": dict(document.metadata)},
        document.id,
    )
    fields = (row, document.id, item, document.content.modality, document.parent_id, digest)
    return Record(*fields, checksum(*fields))


def decode(record: Record, assets: Places) -> Document:
    """The document of a row; pictures the collection keeps are given by their path.

    Raises:
        CorruptCollection: the row is damaged.
    """
    try:
        stored = json.loads(record.item)
        parts = tuple(_part_from_json(part, assets) for part in stored["content"])
        return Document(record.id, Content(parts), stored["metadata"], record.parent_id)
    except (ValueError, KeyError, TypeError, InputError, RecursionError) as error:
        raise CorruptCollection(
            f"the stored document {record.id!r} is damaged: run `mmseek verify`, then index it again"
        ) from error


def checksum(row: int, identifier: str, item: str, modality: str, parent_id: str | None, digest: str | None) -> bytes:
    """16 bytes over all that a row says."""
    fields = json.dumps([row, identifier, item, modality, parent_id, digest])
    return hashlib.blake2b(fields.encode(), digest_size=16).digest()


def asset_names(item: str) -> Iterator[str]:
    """The kept pictures that a stored row refers to."""
    for part in json.loads(item)["content"] if '"asset"' in item else ():
        if "asset" in part:
            yield part["asset"]


def check_id(identifier: object, what: str = "a document's id") -> None:
    """Refuse what cannot be stored and found again as an id.

    Raises:
        InputError: no string, empty, too long, or with characters that are no text.
    """
    if not isinstance(identifier, str):
        raise InputError(f"{what} is a string, not {type(identifier).__name__}")
    try:
        size = len(identifier.encode())
    except UnicodeEncodeError:
        raise InputError(f"{what}, {identifier!r}, is not valid Unicode: give another id") from None
    if not size or "\x00" in identifier:
        raise InputError(f"{what}, {identifier!r}, is empty or has a NUL character in it: give another id")
    if size > MAX_ID_BYTES:
        raise InputError(f"{what}, {identifier[:40]!r}..., has {size} bytes, and {MAX_ID_BYTES} are the most")


def _to_json(stored: Mapping[str, Any], identifier: str) -> str:
    try:
        text = json.dumps(stored, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"document {identifier!r}: its metadata is no JSON ({error})") from error
    # Text with half a surrogate pair, or a file name that is no UTF-8: escapes keep it as it is.
    return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _part_to_json(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"text": part.text}
    if part.url is not None:
        return {"url": part.url}
    frame = {} if part.frame is None else {"frame": list(part.frame)}
    if part.data is not None:
        return {"asset": asset_name(part.data), **frame}
    return {"path": str(Path(str(part.path)).absolute()), **frame}


def _part_from_json(part: Mapping[str, Any], assets: Places) -> Part:
    if "text" in part:
        return Text(part["text"])
    if "url" in part:
        return Image(url=part["url"])
    number, count = part.get("frame", (0, 0))
    path = assets.path(part["asset"]) if "asset" in part else Path(part["path"])
    return Image(path=path, frame=(number, count) if count else None)
