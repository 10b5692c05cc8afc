from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from mmseek.api.server.errors import DocumentNotFound
from mmseek.api.server.schemas import ErrorAnswer
from mmseek.api.server.service import Service, ServiceDep
from mmseek.api.server.showing import document_json
from mmseek.errors import MediaError, UrlRefused
from mmseek.media import MIME_TYPES, read_bytes, recognise

router = APIRouter(prefix="/v1/documents", tags=["documents"])

# A picture is shown, never run: not even an SVG or a page that calls itself a picture could do anything.
_HEADERS = {"Content-Security-Policy": "default-src 'none'; sandbox", "Cache-Control": "private, max-age=60"}


@router.get(
    "/{document_id:path}/images/{number:int}",
    response_class=Response,
    responses={200: {"content": {"image/*": {}}}, 404: {"model": ErrorAnswer}},
)
async def picture(document_id: str, number: int, service: ServiceDep) -> Response:
    """The file of a document's picture, counted from 0."""
    return await service.reading.run(_picture, service, document_id, number)


def _picture(service: Service, document_id: str, number: int) -> Response:
    # The document of this whole path, if there is one: an id may look like the address of a picture.
    whole = f"{document_id}/images/{number}"
    found = service.retriever.collection.get([document_id, whole])
    if document_id not in found and whole in found:
        return JSONResponse(document_json(found[whole]))
    images = found[document_id].content.images if document_id in found else ()
    if number >= len(images):
        raise DocumentNotFound(f"there is no picture {number} of a document {document_id[:200]!r}")
    try:
        data = read_bytes(images[number], service.limits.media)
    except (MediaError, UrlRefused):
        raise _gone(number) from None  # their sentences name the file
    kind = recognise(data)
    if kind is None:
        raise _gone(number)
    return Response(data, media_type=MIME_TYPES[kind], headers=_HEADERS)


def _gone(number: int) -> DocumentNotFound:
    return DocumentNotFound(f"picture {number} of this document can no longer be read: index the document again")
