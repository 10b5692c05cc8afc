"""What a client sends: the bodies that both clients share. Nothing here speaks to anyone."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypedDict
from urllib.parse import quote

from mmseek._types import Content, Document, GroupBy, Image, Part, SearchMode, Text, Weighted
from mmseek.errors import InputError, MediaNotFound

if TYPE_CHECKING:
    import PIL.Image

Picture: TypeAlias = "Image | Path | str | bytes | PIL.Image.Image"

BATCH_BYTES: Final = 16 * 1024**2
BATCH_DOCUMENTS: Final = 256


class SearchOptions(TypedDict, total=False):
    """How a search is done besides what is asked; what is not given is as the server has it. See `mmseek.Retriever`."""

    instruction: str
    k: int
    mode: SearchMode
    filter: str
    exclude: Sequence[str]
    candidates: Sequence[str]
    also: Sequence[Weighted]
    like: Sequence[str]
    unlike: Sequence[str]
    group_by: GroupBy
    rerank: bool
    rerank_depth: Sequence[int]
    rerank_fusion: float | Literal["rrf"]
    rerank_budget: float
    threshold: float
    explain: bool


class RecommendOptions(TypedDict, total=False):
    """How documents are recommended besides by which ids."""

    k: int
    filter: str
    exclude: Sequence[str]
    candidates: Sequence[str]
    group_by: GroupBy


_LISTS: Final = ("exclude", "candidates", "like", "unlike", "rerank_depth")


def _options_json(options: SearchOptions) -> dict[str, Any]:
    unknown = sorted(set(options) - set(SearchOptions.__annotations__))
    if unknown:
        raise TypeError(f"a search takes no option {unknown[0]!r}")
    body: dict[str, Any] = {name: list(value) if name in _LISTS else value for name, value in options.items()}  # type: ignore[call-overload]
    if "also" in options:
        body["also"] = [{**content_json(each.content), "weight": each.weight} for each in options["also"]]
    return body


def search_body(query: str | Content | None, image: Picture | None, options: SearchOptions) -> dict[str, Any]:
    """The body of a search.

    Raises:
        InputError: there is nothing to search for.
        MediaNotFound: the picture's file cannot be read.
    """
    alone = query is None and image is None and any(options.get(name) for name in ("also", "like", "unlike"))
    return {**({} if alone else question_json(query, image)), **_options_json(options)}


def question_json(query: str | Content | None, image: Picture | None) -> dict[str, Any]:
    """What is asked, as the service reads it.

    Raises:
        InputError: it is nothing.
        MediaNotFound: the picture's file cannot be read.
    """
    parts: list[Part] = [] if image is None else [as_image(image)]
    if isinstance(query, Content):
        parts += query.parts
    elif query is not None:
        parts.append(Text(query))
    if not parts:
        raise InputError("the query has neither text nor image: give at least one")
    return content_json(Content(tuple(parts)))


def upload_form(
    text: str | None, image: Picture, options: SearchOptions
) -> tuple[dict[str, str], dict[str, tuple[str, bytes]]]:
    """Fields and file of a search with a picture as a form: a quarter smaller than as JSON."""
    given = _options_json(options)
    fields = {"options": json.dumps(given)} if given else {}
    if text is not None:
        fields["text"] = text
    return fields, {"image": ("picture", bytes_of(as_image(image)))}


def as_image(picture: Picture) -> Image:
    """A picture that is given in any way."""
    if isinstance(picture, Image):
        return picture
    if isinstance(picture, bytes):
        return Image(data=picture)
    (image,) = Content.of(Path(picture) if isinstance(picture, str) else picture).images
    return image


def bytes_of(image: Image) -> bytes:
    """The file of a picture.

    Raises:
        MediaNotFound: it cannot be read.
        InputError: the picture is a URL, which the server would not fetch.
    """
    if image.data is not None:
        return image.data
    if image.path is None:
        raise InputError(f"{image} is an address, and the server fetches none: give the picture's file or bytes")
    try:
        return image.path.read_bytes()
    except OSError as error:
        raise MediaNotFound(f"{image.path} cannot be read ({error.strerror}): give the path of a picture") from error


def content_json(content: Content) -> dict[str, Any]:
    """Content as the service reads it, with pictures inside."""
    return {"content": [_part_json(part) for part in content.parts]}


def item_json(document: Document | Mapping[str, Any]) -> dict[str, Any]:
    """A document as an item; a mapping is an item already, whatever it holds."""
    if not isinstance(document, Document):
        return dict(document)
    item: dict[str, Any] = {"id": document.id, **content_json(document.content)}
    if document.metadata:
        item["metadata"] = dict(document.metadata)
    if document.parent_id is not None:
        item["parent_id"] = document.parent_id
    return item


def batches(documents: Iterable[Document | Mapping[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Documents in requests of bounded size; lazily, so that a corpus need not fit into memory."""
    batch: list[dict[str, Any]] = []
    size = 0
    for document in documents:
        item = item_json(document)
        weight = _weight(item)
        if batch and (len(batch) == BATCH_DOCUMENTS or size + weight > BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += weight
    if batch:
        yield batch


def document_path(base: str, document_id: str) -> str:
    """The address of a document; `base` is that of its collection."""
    return f"{base}/documents/{quote(document_id, safe='')}"


def picture_path(base: str, document_id: str, number: int, side: int | None) -> str:
    """The address of a document's picture, or of a small copy of it; `base` is that of its collection."""
    name = quote(document_id, safe="")
    if side is None:
        return f"{base}/documents/{name}/images/{number}"
    return f"{base}/thumbnails/{name}/{number}?side={side}"


def _part_json(part: Part) -> dict[str, str]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    # The kind of the picture is read from its bytes, not from here.
    return {"type": "image", "image": f"data:image/x-unknown;base64,{base64.b64encode(bytes_of(part)).decode()}"}


def _weight(item: Mapping[str, Any]) -> int:
    """About how many bytes an item takes: those of its texts and pictures."""
    content = item.get("content")
    parts = [part for part in content if isinstance(part, Mapping)] if isinstance(content, list) else []
    values = [value for each in [item, *parts] for value in (each.get("text"), each.get("image"))]
    return 200 + sum(len(value) for value in values if isinstance(value, str))
