from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from mmseek.api.server.metrics import CONTENT_TYPE
from mmseek.api.server.routes.health import why_not_ready
from mmseek.api.server.service import ServiceDep

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(service: ServiceDep) -> Response:
    """Counters and histograms for Prometheus."""
    service.metrics.ready.set(await why_not_ready(service) is None)
    return Response(service.metrics.text(), headers={"Content-Type": CONTENT_TYPE})
