from __future__ import annotations

import hashlib
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

from fastapi import Query, Request
from fastapi.responses import Response

from mmseek._types import Image
from mmseek.api.pages.thumbnails import small_copy
from mmseek.api.server.conditional import answer_with_tag, has_current, not_modified
from mmseek.api.server.errors import DocumentNotFound
from mmseek.api.server.hosting.place import PlaceDep
from mmseek.api.server.routes.pictures import PICTURE_HEADERS, gone, picture_bytes
from mmseek.api.server.routes.table import RouteTable
from mmseek.api.server.schemas import ErrorAnswer
from mmseek.api.server.small_copies import SmallCopies
from mmseek.errors import MediaError
from mmseek.media import MediaLimits
from mmseek.pipeline import Retriever

table = RouteTable("/thumbnails", tags=["documents"])

# A few sizes only: each asked for is made and kept, and a client must not be able to fill the memory with all others.
Side: TypeAlias = Literal[160, 320, 640, 1280]
_SIDES: Final = get_args(Side)
_MADE: Final = SmallCopies(max_bytes=32 * 1024**2)
_RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"image/jpeg": {}, "image/png": {}}},
    304: {"description": "the client's copy is good"},
    404: {"model": ErrorAnswer},
}


@table.get("/{document_id:path}/{number:int}", response_class=Response, responses=_RESPONSES)
async def thumbnail(
    request: Request,
    document_id: str,
    number: int,
    place: PlaceDep,
    side: Annotated[int, Query(description="the longer side in pixels, rounded up to 160, 320, 640 or 1280")] = 320,
) -> Response:
    """A small copy of a document's picture, counted from 0, as JPEG or PNG."""
    return await place.run(
        place.service.reading, _thumbnail, request, place.service.limits.media, document_id, number, side
    )


def _thumbnail(
    retriever: Retriever, request: Request, media: MediaLimits, document_id: str, number: int, side: int
) -> Response:
    found = retriever.collection.get([document_id]).get(document_id)
    if found is None:
        raise DocumentNotFound(f"there is no document {document_id[:200]!r}")
    wanted = next((each for each in _SIDES if each >= side), _SIDES[-1])
    data = picture_bytes(found, number, media)
    # Named by the file's bytes: where the picture is replaced, the tag is another.
    name = f"{hashlib.sha256(data).hexdigest()[:32]}-{wanted}"
    if has_current(request, f'"{name}"'):
        return not_modified(f'"{name}"', PICTURE_HEADERS)
    try:
        small = _MADE.get(name, lambda: small_copy(Image(data=data), wanted, limits=media))
    except MediaError:
        raise gone(number) from None
    return answer_with_tag(request, small.data, small.mime, f'"{name}"', PICTURE_HEADERS)
