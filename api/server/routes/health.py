from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from mmseek.api.server.schemas import HealthAnswer
from mmseek.api.server.service import Service, ServiceDep
from mmseek.errors import MmseekError

router = APIRouter(tags=["health"])


@router.get("/health", response_model=HealthAnswer, responses={503: {"model": HealthAnswer}})
@router.get("/health/live", response_model=HealthAnswer, responses={503: {"model": HealthAnswer}})
async def live(service: ServiceDep) -> JSONResponse:
    """The process answers and is worth keeping; 503 asks for a new one, because a model is lost for good."""
    if any(queue.state == "failed" for queue in service.queues):
        return JSONResponse({"status": "unavailable", "reason": "worker_failed"}, 503)
    return JSONResponse({"status": "ok"})


@router.get("/health/ready", response_model=HealthAnswer, responses={503: {"model": HealthAnswer}})
async def ready(service: ServiceDep) -> JSONResponse:
    """Requests can be served: the models answer, the collection can be read, and the server is not stopping."""
    reason = await why_not_ready(service)
    if reason is not None:
        return JSONResponse({"status": "unavailable", "reason": reason}, 503)
    return JSONResponse({"status": "ok"})


async def why_not_ready(service: Service) -> str | None:
    """What keeps the service from taking requests, in a word."""
    if service.stopping:
        return "stopping"
    for queue in service.queues:
        if queue.state != "ready":
            return f"worker_{queue.state}"
    try:
        if service.hosted is not None:
            await service.reading.run(service.hosted.names)
        if service.opened is not None:
            await service.reading.run(service.opened.collection.digests, ["ready?"])
    except MmseekError as error:
        return error.code
    return None
