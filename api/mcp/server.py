"""The server and its tools, around one retriever.

The Model Context Protocol: https://modelcontextprotocol.io/specification. Every result has a structured form beside the
text; a picture is a content block of its own.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
from typing import Annotated, Any, Final

from mcp.server import MCPServer
from mcp.server.mcpserver import Image as Picture
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from mmseek import __version__
from mmseek._types import Content, Document, Image, Part, Query, SearchMode, Text
from mmseek.api.mcp.results import (
    AddedDocument,
    DeletedDocuments,
    DocumentList,
    Found,
    SearchResults,
    WholeDocument,
    found,
    listed,
    whole,
)
from mmseek.api.pages.thumbnails import small_copy
from mmseek.errors import InputError, MediaError, MmseekError, UrlRefused
from mmseek.items import parse_item
from mmseek.media import MediaLimits
from mmseek.pipeline import Retriever
from mmseek.protocols import Listing

__all__ = ["Found", "make_server"]

_MOST_HITS: Final = 50
_SIDE: Final = 768
_SIDES: Final = (64, 1536)
_PICTURE: Final = Field(description="a picture file as base64: JPEG, PNG, WEBP, GIF, BMP or TIFF")


class Tools:
    """What the tools do. One call works at a time, for there is one encoder.

    Args:
        retriever: open for writing, if `add_document` is to be offered.
        limits: of every picture.
    """

    def __init__(self, retriever: Retriever, limits: MediaLimits) -> None:
        self._retriever = retriever
        self._limits = limits
        self._lock = threading.Lock()

    def search(
        self,
        text: Annotated[str | None, Field(description="what to look for, in words")] = None,
        image_base64: Annotated[str | None, _PICTURE] = None,
        like: Annotated[list[str] | None, Field(description="ids of documents to be near to")] = None,
        unlike: Annotated[list[str] | None, Field(description="ids of documents to be far from")] = None,
        k: Annotated[int, Field(ge=1, le=_MOST_HITS, description="how many hits")] = 10,
        mode: Annotated[SearchMode, Field(description="by meaning, by words, or by both")] = "dense",
        filter: Annotated[  # noqa: A002  # the word that Query and the other surfaces use
            str | None, Field(description='a condition on metadata: year >= 2020 and lang = "en"')
        ] = None,
        instruction: Annotated[str | None, Field(description="what kind of thing is wanted")] = None,
    ) -> SearchResults:
        """Find documents by words, by a picture, by both, or by other documents that they are to be like."""
        try:
            query = Query(
                content=Content(self._parts(text, image_base64)),
                instruction=instruction,
                k=k,
                mode=mode,
                filter=filter,
                like=tuple(like or ()),
                unlike=tuple(unlike or ()),
            )
            with self._lock:
                hits = self._retriever.search(query).hits
        except MmseekError as error:
            raise _told(error) from error
        return SearchResults(hits=[found(hit) for hit in hits])

    def list_documents(
        self,
        filter: Annotated[  # noqa: A002
            str | None, Field(description='a condition on metadata: year >= 2020 and lang = "en"')
        ] = None,
        limit: Annotated[int, Field(ge=1, le=_MOST_HITS, description="how many")] = 20,
        after: Annotated[int, Field(ge=0, description="`next` of the page before")] = 0,
    ) -> DocumentList:
        """Go through the documents in the order of storing, all of them or those with some metadata."""
        try:
            with self._lock:
                collection = self._retriever.collection
                if not isinstance(collection, Listing):
                    raise InputError("this collection cannot be listed: search it")
                page = collection.page(limit, after, filter)
                count = None if filter is None else collection.count_where(filter)
                total = collection.info().documents if count is None else count
        except MmseekError as error:
            raise _told(error) from error
        return DocumentList(documents=[listed(document) for document in page.documents], total=total, next=page.next)

    def delete_documents(
        self, ids: Annotated[list[str], Field(min_length=1, max_length=1000, description="as search gave them")]
    ) -> DeletedDocuments:
        """Remove documents for good; ids that are unknown are no error."""
        try:
            with self._lock:
                return DeletedDocuments(deleted=self._retriever.delete(ids))
        except MmseekError as error:
            raise _told(error) from error

    def get_document(
        self,
        id: Annotated[str, Field(description="as search gave it")],  # noqa: A002
        max_chars: Annotated[int, Field(ge=1, le=200_000, description="of its text")] = 20_000,
    ) -> WholeDocument:
        """Read a document: its texts and the places of its pictures in order, and its metadata."""
        try:
            return whole(self._document(id), max_chars)
        except MmseekError as error:
            raise _told(error) from error

    def get_image(
        self,
        id: Annotated[str, Field(description="as search gave it")],  # noqa: A002
        number: Annotated[int, Field(ge=0, description="which of its pictures, from 0")] = 0,
        max_side: Annotated[
            int, Field(ge=_SIDES[0], le=_SIDES[1], description="of the longer side, in pixels")
        ] = _SIDE,
    ) -> Picture:
        """Look at a picture of a document."""
        try:
            images = self._document(id).content.images
            if number >= len(images):
                raise InputError(f"document {id[:200]!r} has {len(images)} pictures, so none with the number {number}")
            small = _small(images[number], number, max_side, self._limits)
        except MmseekError as error:
            raise _told(error) from error
        return Picture(data=small[1], format=small[0].removeprefix("image/"))

    def add_document(
        self,
        id: Annotated[str, Field(description="a document of this id is replaced")],  # noqa: A002
        text: Annotated[str | None, Field(description="its text")] = None,
        image_base64: Annotated[str | None, _PICTURE] = None,
        metadata: Annotated[dict[str, Any] | None, Field(description="a JSON object, for filters")] = None,
    ) -> AddedDocument:
        """Keep a text, a picture or both, so that they are found from now on."""
        try:
            document = self._made(id, text, image_base64, metadata)
            with self._lock:
                report = self._retriever.add([document])
            for failed in report.failed:
                raise failed
        except MmseekError as error:
            raise _told(error) from error
        return AddedDocument(id=document.id, outcome="indexed" if report.indexed else "unchanged")

    def _made(self, name: str, text: str | None, image: str | None, metadata: dict[str, Any] | None) -> Document:
        """The document of these arguments, checked as any item is."""
        given = {"id": name, "text": text, "metadata": metadata or None}
        item: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
        if image is not None:
            item["image"] = f"data:image/x-unknown;base64,{_stripped(image)}"
        return parse_item(json.loads(json.dumps(item)), base=None, limits=self._limits).to_document()

    def _document(self, name: str) -> Document:
        with self._lock:
            held = self._retriever.collection.get([name])
        if name not in held:
            raise InputError(f"there is no document {name[:200]!r}: give an id that search has found")
        return held[name]

    def _parts(self, text: str | None, image: str | None) -> tuple[Part, ...]:
        parts: list[Part] = []
        if image is not None:
            try:
                parts.append(Image(data=base64.b64decode(_stripped(image), validate=True)))
            except (binascii.Error, ValueError) as error:
                raise InputError("image_base64 is no base64: give the bytes of a picture file as base64") from error
        if text is not None and text.strip():
            parts.append(Text(text))
        return tuple(parts)


def make_server(retriever: Retriever, *, allow_write: bool = False, limits: MediaLimits | None = None) -> MCPServer:
    """The server of a collection; `run()` of it speaks over stdin and stdout.

    Args:
        retriever: used by nothing else meanwhile; open for writing if `allow_write`.
        allow_write: whether there is a tool that adds documents.
        limits: of every picture.
    """
    tools = Tools(retriever, limits or MediaLimits())
    info = retriever.collection.info()
    server = MCPServer(
        "mmseek",
        version=__version__,
        instructions=(
            f"Searches a collection of {info.documents} documents, texts and pictures, by meaning. Search first, then "
            "read what was found with get_document and look at its pictures with get_image."
        ),
    )
    for reading in (tools.search, tools.list_documents, tools.get_document, tools.get_image):
        server.tool(annotations=_annotations(read_only=True))(reading)
    if allow_write:
        server.tool(annotations=_annotations(read_only=False))(tools.add_document)
        server.tool(annotations=_annotations(read_only=False))(tools.delete_documents)
    return server


def _annotations(*, read_only: bool) -> Any:
    from mcp_types import ToolAnnotations

    return ToolAnnotations(
        read_only_hint=read_only, destructive_hint=not read_only, idempotent_hint=True, open_world_hint=False
    )


def _small(image: Image, number: int, side: int, limits: MediaLimits) -> tuple[str, bytes]:
    try:
        small = small_copy(image, side, limits=limits)
    except (MediaError, UrlRefused) as error:  # whose sentences name files of this machine
        raise InputError(
            f"picture {number} of this document can no longer be read: index the document again"
        ) from error
    return small.mime, small.data


def _stripped(image: str) -> str:
    """The base64 of a picture; models like to give a data: URI where that is asked for."""
    return image.partition(",")[2] if image[:5].lower() == "data:" else "".join(image.split())


def _told(error: MmseekError) -> ToolError:
    """An error as the model reads it: one sentence that says what to do."""
    return ToolError(str(error))
