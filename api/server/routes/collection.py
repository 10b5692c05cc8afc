from __future__ import annotations

from typing import Any

from fastapi.responses import JSONResponse

from mmseek.api.server.hosting.place import PlaceDep
from mmseek.api.server.routes.table import RouteTable
from mmseek.api.server.schemas import CollectionAnswer
from mmseek.pipeline import Retriever

table = RouteTable("/collection", tags=["collections"])


@table.get("", response_model=CollectionAnswer)
async def info(place: PlaceDep) -> JSONResponse:
    """What the default collection holds, and the encoder that made it."""
    return JSONResponse(await place.run(place.service.reading, info_json))


def info_json(retriever: Retriever) -> dict[str, Any]:
    """What a collection holds."""
    found = retriever.collection.info()
    return {
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
