from __future__ import annotations

import time
from typing import Any

from fastapi.responses import JSONResponse

from mmseek.api.server.hosting.place import PlaceDep
from mmseek.api.server.routes.table import RouteTable
from mmseek.api.server.schemas_collections import CompactedAnswer
from mmseek.pipeline import Retriever

table = RouteTable(tags=["collections"])


@table.post("/compact", response_model=CompactedAnswer)
async def compact(place: PlaceDep) -> JSONResponse:
    """Give the space of replaced and deleted documents back to the disk; needs a key of scope admin.

    Searches go on meanwhile, writes wait. It needs room on the disk for a second copy of the vectors that stay.
    """
    return JSONResponse(await place.run(place.service.writing, _compact))


def _compact(retriever: Retriever) -> dict[str, Any]:
    before, began = retriever.collection.info().bytes, time.perf_counter()
    dropped = retriever.collection.compact()
    took = (time.perf_counter() - began) * 1000
    return {
        "dropped": dropped,
        "bytes_before": before,
        "bytes": retriever.collection.info().bytes,
        "took_ms": round(took, 1),
    }
