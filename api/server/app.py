"""The application: routes, limits and errors around one retriever."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from fastapi import FastAPI

from mmseek.api.server import errors
from mmseek.api.server.body_limit import BodyLimit
from mmseek.api.server.host_check import HostCheck
from mmseek.api.server.lanes import Lane
from mmseek.api.server.limits import ServerLimits
from mmseek.api.server.middleware import RequestLog
from mmseek.api.server.routes import ROUTERS
from mmseek.api.server.service import Service

if TYPE_CHECKING:
    from mmseek.pipeline import Retriever

_READERS: Final = 4


def create_app(
    retriever: Retriever, *, limits: ServerLimits | None = None, hosts: Collection[str] | None = None
) -> FastAPI:
    """The service of one collection, as an ASGI application.

    Starting it needs no lifespan; ending the lifespan ends its threads. The retriever stays the caller's to close,
    after that.

    Args:
        retriever: its collection open for writing, and used by nothing else meanwhile.
        limits: what a request may ask for.
        hosts: the names under which requests are answered; None answers under any. See `host_check`.
    """
    limits = limits or ServerLimits()
    service = Service(
        retriever=retriever,
        limits=limits,
        encoding=Lane("mmseek-encoding", threads=1, max_waiting=limits.max_waiting),
        reading=Lane("mmseek-reading", threads=_READERS, max_waiting=limits.max_waiting * _READERS),
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.stopping = True
        service.encoding.close()
        service.reading.close()

    app = FastAPI(
        title="mmseek",
        version=version("mmseek"),
        summary="Search a collection of texts, pictures and both.",
        lifespan=lifespan,
        docs_url=None,  # that page would load scripts from another host
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    app.add_middleware(BodyLimit, max_bytes=limits.max_body_bytes)
    if hosts is not None:
        app.add_middleware(HostCheck, hosts=hosts)
    app.add_middleware(RequestLog)  # the last one added is the outermost
    errors.install(app)
    for router in ROUTERS:
        app.include_router(router)
    return app
