"""A document as one line of text and back: its place, a tab, and what it is, pictures given as bytes included."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from mmseek._types import Content, Document, Image, Part, Text
from mmseek.errors import ItemError
from mmseek.index.corpus import Located

__all__ = ["digest_in", "from_line", "to_line"]


def to_line(document: Document, digest: str | None = None) -> bytes:
    """JSON twice, ASCII only. What stands behind the tab is equal for equal documents, wherever they were read.

    A document that brought its own digest, as the pages of a PDF do, keeps it before the tab.

    Raises:
        ItemError: its metadata is no JSON.
    """
    try:
        text = json.dumps(
            {
                "id": document.id,
                "content": [_to_json(part) for part in document.content.parts],
                "metadata": dict(document.metadata),
                "parent_id": document.parent_id,
            },
            allow_nan=False,
            separators=(",", ":"),
        )
    except (TypeError, ValueError, RecursionError) as error:
        raise ItemError("metadata cannot be written as JSON: use strings, finite numbers, lists and objects") from error
    place = [document.source, document.line] if isinstance(document, Located) else None
    return f"{json.dumps([place, digest])}\t{text}".encode("ascii")


def digest_in(line: bytes) -> str | None:
    """The digest that the document of a line brought."""
    found = json.loads(line.partition(b"\t")[0])[1]
    return None if found is None else str(found)


def from_line(line: bytes) -> Document:
    """The document of a line; a `Located` one if it knew its place."""
    (place, _), row = map(json.loads, line.split(b"\t"))
    fields = (row["id"], Content(tuple(map(_from_json, row["content"]))), row["metadata"], row["parent_id"])
    return Document(*fields) if place is None else Located(*fields, *place)


def _to_json(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"text": part.text}
    if part.url is not None:
        return {"url": part.url}
    frame = {} if part.frame is None else {"frame": list(part.frame)}
    if part.data is not None:
        return {"data": base64.b64encode(part.data).decode("ascii"), **frame}
    # Absolute, because a worker runs in a folder of its own.
    return {"path": str(Path(str(part.path)).absolute()), **frame}


def _from_json(part: dict[str, Any]) -> Part:
    if "text" in part:
        return Text(part["text"])
    if "url" in part:
        return Image(url=part["url"])
    frame = tuple(part["frame"]) if "frame" in part else None
    if "data" in part:
        return Image(data=base64.b64decode(part["data"]), frame=frame)
    return Image(path=Path(part["path"]), frame=frame)
