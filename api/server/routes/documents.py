from __future__ import annotations

from typing import Any

from fastapi.responses import JSONResponse

from mmseek._types import Document
from mmseek.api.server.errors import DocumentNotFound
from mmseek.api.server.fetched import Fetched, fetched, urls_of_items
from mmseek.api.server.hosting.place import Place, PlaceDep
from mmseek.api.server.limits import ServerLimits
from mmseek.api.server.reading import Failure, own_code, read_documents
from mmseek.api.server.routes.table import RouteTable
from mmseek.api.server.schemas import DeletedAnswer, DocumentsAnswer, DocumentsBody, ErrorAnswer
from mmseek.api.server.showing import document_json
from mmseek.errors import InputError, ItemError
from mmseek.pipeline import Retriever

table = RouteTable("/documents", tags=["documents"])
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": ErrorAnswer}}


@table.post("", response_model=DocumentsAnswer)
async def add(body: DocumentsBody, place: PlaceDep) -> JSONResponse:
    """Add documents, or replace those of equal id. Each has its own outcome; what is counted is durable."""
    return JSONResponse(await store(body.documents, place))


@table.get("/{document_id:path}", responses=_UNKNOWN)
async def show(document_id: str, place: PlaceDep) -> JSONResponse:
    """A document in the item format; its pictures are addresses of this service."""
    found = await place.run(place.service.reading, _get, [document_id])
    if document_id not in found:
        raise _unknown(document_id)
    return JSONResponse(document_json(found[document_id], place.base))


@table.delete("/{document_id:path}", response_model=DeletedAnswer, responses=_UNKNOWN)
async def remove(document_id: str, place: PlaceDep) -> JSONResponse:
    """Remove one document."""
    deleted = await place.run(place.service.writing, Retriever.delete, [document_id])
    if not deleted:
        raise _unknown(document_id)
    return JSONResponse({"deleted": deleted})


async def store(items: list[Any], place: Place) -> dict[str, Any]:
    """Store items; the outcome of each, as `DocumentsAnswer` has it.

    Raises:
        InputError: there are too many.
    """
    limits = place.service.limits
    most = limits.max_documents
    if len(items) > most:
        raise InputError(f"there are {len(items)} documents, and {most} are the most: send several requests")
    found = await fetched(urls_of_items(items), limits)
    return await place.run(place.service.writing, _add, items, limits, found)


def _get(retriever: Retriever, ids: list[str]) -> dict[str, Document]:
    return retriever.collection.get(ids)


def _add(retriever: Retriever, items: list[Any], limits: ServerLimits, found: Fetched) -> dict[str, Any]:
    entries = list(read_documents(items, limits, found))
    failed = [entry for entry in entries if isinstance(entry, Failure)]
    report = retriever.add(entry for entry in entries if not isinstance(entry, Failure))
    failed += [_failure(error) for error in report.failed]
    failed.sort(key=lambda failure: failure.position)
    return {
        "indexed": report.indexed,
        "unchanged": report.unchanged,
        "failed": [failure.to_json() for failure in failed],
    }


def _failure(error: ItemError) -> Failure:
    return Failure((error.line or 0) - 1, error.item_id, own_code(error), error.reason)


def _unknown(document_id: str) -> DocumentNotFound:
    return DocumentNotFound(f"there is no document {document_id[:200]!r}")
