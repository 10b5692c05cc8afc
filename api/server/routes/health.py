from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from mmseek.api.server.schemas import HealthAnswer
from mmseek.api.server.service import ServiceDep
from mmseek.errors import MmseekError

router = APIRouter(tags=["health"])


@router.get("/health", response_model=HealthAnswer)
@router.get("/health/live", response_model=HealthAnswer)
async def live() -> JSONResponse:
    """The process answers."""
    return JSONResponse({"status": "ok"})


@router.get("/health/ready", response_model=HealthAnswer, responses={503: {"model": HealthAnswer}})
async def ready(service: ServiceDep) -> JSONResponse:
    """Requests can be served: the collection can be read, and the server is not stopping."""
    if service.stopping:
        return JSONResponse({"status": "unavailable", "reason": "stopping"}, 503)
    try:
        await service.reading.run(service.retriever.collection.digests, ["ready?"])
    except MmseekError as error:
        return JSONResponse({"status": "unavailable", "reason": error.code}, 503)
    return JSONResponse({"status": "ok"})
