from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from mmseek.api.server.conditional import answer_with_tag
from mmseek.api.server.service import ServiceDep
from mmseek.api.web import PAGE, PAGE_BESIDE_OWN, PAGE_HEADERS, PAGE_OF_SEVERAL, assets

router = APIRouter(include_in_schema=False)


@router.get("/")
async def page(request: Request, service: ServiceDep) -> Response:
    """The search page."""
    if service.hosted is None:
        return _asset(request, PAGE)
    return _asset(request, PAGE_OF_SEVERAL if service.opened is None else PAGE_BESIDE_OWN)


@router.get("/web/{name}")
async def asset(request: Request, name: str) -> Response:
    """A file of the page."""
    return _asset(request, name)


def _asset(request: Request, name: str) -> Response:
    found = assets().get(name)
    if found is None:
        raise HTTPException(404)
    return answer_with_tag(request, found.data, found.media_type, found.etag, PAGE_HEADERS)
