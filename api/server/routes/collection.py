from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from mmseek.api.server.schemas import CollectionAnswer
from mmseek.api.server.service import ServiceDep

router = APIRouter(prefix="/v1/collection", tags=["collection"])


@router.get("", response_model=CollectionAnswer)
async def info(service: ServiceDep) -> JSONResponse:
    """What the collection holds, and the encoder that made it."""
    found = await service.reading.run(service.retriever.collection.info)
    return JSONResponse(
        {
            "documents": found.documents,
            "modalities": dict(found.modalities),
            "encoder": {
                "spec": found.encoder.spec,
                "fingerprint": found.encoder.fingerprint,
                "dim": found.encoder.dim,
            },
            "bytes": found.bytes,
            "format_version": found.format_version,
            "created_at": found.created_at,
            "updated_at": found.updated_at,
        }
    )
