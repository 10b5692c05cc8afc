from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from mmseek.api.server.errors import DocumentNotFound
from mmseek.api.server.reading import Failure, check_ids, own_code, read_documents
from mmseek.api.server.schemas import DeletedAnswer, DocumentsAnswer, DocumentsBody, ErrorAnswer, IdsBody
from mmseek.api.server.service import Service, ServiceDep
from mmseek.api.server.showing import document_json
from mmseek.errors import InputError, ItemError

router = APIRouter(prefix="/v1/documents", tags=["documents"])
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": ErrorAnswer}}


@router.post("", response_model=DocumentsAnswer)
async def add(body: DocumentsBody, service: ServiceDep) -> JSONResponse:
    """Add documents, or replace those of equal id. Each has its own outcome; what is counted is durable."""
    most = service.limits.max_documents
    if len(body.documents) > most:
        raise InputError(f"there are {len(body.documents)} documents, and {most} are the most: send several requests")
    return JSONResponse(await service.writing.run(_add, service, body.documents))


@router.delete("", response_model=DeletedAnswer)
async def remove_many(body: IdsBody, service: ServiceDep) -> JSONResponse:
    """Remove documents; ids that are unknown are no error."""
    check_ids(body.ids, "ids", service.limits)
    return JSONResponse({"deleted": await service.writing.run(service.retriever.delete, body.ids)})


@router.get("/{document_id:path}", responses=_UNKNOWN)
async def show(document_id: str, service: ServiceDep) -> JSONResponse:
    """A document in the item format; its pictures are addresses of this service."""
    found = await service.reading.run(service.retriever.collection.get, [document_id])
    if document_id not in found:
        raise _unknown(document_id)
    return JSONResponse(document_json(found[document_id]))


@router.delete("/{document_id:path}", response_model=DeletedAnswer, responses=_UNKNOWN)
async def remove(document_id: str, service: ServiceDep) -> JSONResponse:
    """Remove one document."""
    deleted = await service.writing.run(service.retriever.delete, [document_id])
    if not deleted:
        raise _unknown(document_id)
    return JSONResponse({"deleted": deleted})


def _add(service: Service, items: list[Any]) -> dict[str, Any]:
    entries = list(read_documents(items, service.limits.media))
    failed = [entry for entry in entries if isinstance(entry, Failure)]
    report = service.retriever.add(entry for entry in entries if not isinstance(entry, Failure))
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
