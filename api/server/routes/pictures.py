from __future__ import annotations

from fastapi.responses import JSONResponse, Response

from mmseek._types import Document
from mmseek.api.server.errors import DocumentNotFound
from mmseek.api.server.hosting.place import Place, PlaceDep
from mmseek.api.server.routes.table import RouteTable
from mmseek.api.server.schemas import ErrorAnswer
from mmseek.api.server.showing import document_json
from mmseek.errors import MediaError, UrlRefused
from mmseek.media import MIME_TYPES, MediaLimits, read_bytes, recognise
from mmseek.pipeline import Retriever

table = RouteTable("/documents", tags=["documents"])

# A picture is shown, never run: not even an SVG or a page that calls itself a picture could do anything.
PICTURE_HEADERS = {"Content-Security-Policy": "default-src 'none'; sandbox", "Cache-Control": "private, max-age=60"}


@table.get(
    "/{document_id:path}/images/{number:int}",
    response_class=Response,
    responses={200: {"content": {"image/*": {}}}, 404: {"model": ErrorAnswer}},
)
async def picture(document_id: str, number: int, place: PlaceDep) -> Response:
    """The file of a document's picture, counted from 0."""
    return await place.run(place.service.reading, _picture, place, document_id, number)


def _picture(retriever: Retriever, place: Place, document_id: str, number: int) -> Response:
    # The document of this whole path, if there is one: an id may look like the address of a picture.
    whole = f"{document_id}/images/{number}"
    found = retriever.collection.get([document_id, whole])
    if document_id not in found and whole in found:
        return JSONResponse(document_json(found[whole], place.base))
    if document_id not in found:
        raise _no_picture(number, document_id)
    data = picture_bytes(found[document_id], number, place.service.limits.media)
    kind = recognise(data)
    if kind is None:
        raise gone(number)
    return Response(data, media_type=MIME_TYPES[kind], headers=PICTURE_HEADERS)


def picture_bytes(document: Document, number: int, limits: MediaLimits) -> bytes:
    """The file of a document's picture, counted from 0.

    Raises:
        DocumentNotFound: there is no such picture, or it cannot be read any more.
    """
    images = document.content.images
    if number >= len(images):
        raise _no_picture(number, document.id)
    try:
        return read_bytes(images[number], limits)
    except (MediaError, UrlRefused):
        raise gone(number) from None  # their sentences name the file


def gone(number: int) -> DocumentNotFound:
    """The picture was there when the document was indexed."""
    return DocumentNotFound(f"picture {number} of this document can no longer be read: index the document again")


def _no_picture(number: int, document_id: str) -> DocumentNotFound:
    return DocumentNotFound(f"there is no picture {number} of a document {document_id[:200]!r}")
