from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query
from fastapi.responses import JSONResponse

from mmseek.api.server.cursors import make_cursor, read_cursor
from mmseek.api.server.errors import NotOffered
from mmseek.api.server.hosting.place import Place, PlaceDep
from mmseek.api.server.reading import check_ids, check_string
from mmseek.api.server.routes.table import RouteTable
from mmseek.api.server.schemas import DeleteBody, DeletedAnswer, DocumentsPageAnswer, GotDocumentsAnswer, IdsBody
from mmseek.api.server.showing import document_json
from mmseek.errors import InputError
from mmseek.pipeline import Retriever
from mmseek.protocols import Listing

table = RouteTable("/documents", tags=["documents"])


@table.get("", response_model=DocumentsPageAnswer)
async def every(
    place: PlaceDep,
    limit: Annotated[int, Query(ge=1, le=1000, description="documents of a page")] = 100,
    cursor: Annotated[str | None, Query(description="`next` of the page before")] = None,
    filter: Annotated[str | None, Query(description="a condition on metadata")] = None,  # noqa: A002
) -> JSONResponse:
    """All documents, a page at a time, in the order of storing; writes meanwhile neither hide nor repeat others."""
    return JSONResponse(await place.run(place.service.reading, _page, place, limit, cursor, filter))


@table.post("/get", response_model=GotDocumentsAnswer)
async def get_many(body: IdsBody, place: PlaceDep) -> JSONResponse:
    """Several documents by id."""
    most = place.service.limits.max_documents
    if len(body.ids) > most:
        raise InputError(f"ids has {len(body.ids)} ids, and {most} are the most: send several requests")
    check_ids(body.ids, "ids", place.service.limits)
    return JSONResponse(await place.run(place.service.reading, _get_many, place, body.ids))


@table.delete("", response_model=DeletedAnswer)
async def remove_many(body: DeleteBody, place: PlaceDep) -> JSONResponse:
    """Remove documents by id, unknown ones being no error, or all that a filter holds for; `dry_run` only counts.

    With `compact` the answer comes when the space of what was removed, now or before, has been given back.
    """
    if (body.ids is None) == (body.filter is None):
        raise InputError("a deletion names its documents by ids or by filter: give one of them")
    check_ids(body.ids or (), "ids", place.service.limits)
    if body.filter is not None:
        check_string(body.filter, "filter")
    if body.dry_run:
        return JSONResponse({"deleted": 0, "would_delete": await place.run(place.service.reading, _count, body)})
    return JSONResponse({"deleted": await place.run(place.service.writing, _remove, body)})


def listing_of(retriever: Retriever) -> Listing:
    """The collection as a list.

    Raises:
        NotOffered: it cannot be listed.
    """
    collection = retriever.collection
    if not isinstance(collection, Listing):
        raise NotOffered("this collection cannot be listed, nor asked by filter alone")
    return collection


def _page(
    retriever: Retriever,
    place: Place,
    limit: int,
    cursor: str | None,
    filter: str | None,  # noqa: A002
) -> dict[str, Any]:
    if filter is not None:
        check_string(filter, "filter")
    of = (place.stored_name, filter)
    page = listing_of(retriever).page(limit, read_cursor(cursor, *of), filter)
    return {
        "documents": [document_json(document, place.base) for document in page.documents],
        "next": None if page.next is None else make_cursor(page.next, *of),
    }


def _get_many(retriever: Retriever, place: Place, ids: list[str]) -> dict[str, Any]:
    wanted = list(dict.fromkeys(ids))
    found = retriever.collection.get(wanted)
    return {
        "documents": [document_json(found[name], place.base) for name in wanted if name in found],
        "missing": [name for name in wanted if name not in found],
    }


def _count(retriever: Retriever, body: DeleteBody) -> int:
    if body.filter is not None:
        return listing_of(retriever).count_where(body.filter)
    return len(retriever.collection.get(body.ids or ()))


def _remove(retriever: Retriever, body: DeleteBody) -> int:
    if body.filter is not None:
        removed = listing_of(retriever).delete_where(body.filter)
    else:
        removed = retriever.delete(body.ids or ())
    if body.compact:
        retriever.collection.compact()
    return removed
