"""The application: routes, limits and errors around models, and around a collection if there is one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from mmseek.api.server import errors, protocols, routes
from mmseek.api.server.body_limit import BodyLimit
from mmseek.api.server.description import describe
from mmseek.api.server.host_check import HostCheck
from mmseek.api.server.idempotency import AnswerStore, Idempotency
from mmseek.api.server.limits import ServerLimits
from mmseek.api.server.middleware import RequestLog
from mmseek.api.server.protocols.voyage_errors import VoyageErrors
from mmseek.api.server.request_scope import RequestScopes
from mmseek.api.server.routes import ROUTERS
from mmseek.api.server.security.gate import KeyCheck
from mmseek.api.server.service import make_service
from mmseek.api.server.tracing import Traced
from mmseek.errors import ConfigError

if TYPE_CHECKING:
    from mmseek.api.server.answering import Answering
    from mmseek.api.server.batching import BatcherOptions
    from mmseek.api.server.hosting import CollectionRoot
    from mmseek.api.server.security import KeyRing
    from mmseek.pipeline import Retriever
    from mmseek.pipeline.encoders import AnyEncoder
    from mmseek.protocols import Reranker


def create_app(
    retriever: Retriever | None = None,
    *,
    encoder: AnyEncoder | None = None,
    encoders: Sequence[AnyEncoder] = (),
    reranker: Reranker | None = None,
    limits: ServerLimits | None = None,
    hosts: Collection[str] | None = None,
    keys: KeyRing | None = None,
    names: Sequence[str] = (),
    cors_origins: Sequence[str] = (),
    batching: BatcherOptions | None = None,
    answering: Answering | None = None,
    root: CollectionRoot | None = None,
    data: Path | None = None,
    import_root: Path | None = None,
    tracer: Any = None,
) -> FastAPI:
    """The service of a collection, or of models alone, as an ASGI application.

    Starting it needs no lifespan; ending the lifespan ends its threads. The retriever stays the caller's to close,
    after that.

    Args:
        retriever: its collection open for writing, and used by nothing else meanwhile.
        encoder: makes embeddings unless a request names another; without it, the retriever's does.
        encoders: more of them, which embedding requests may name by their specs.
        reranker: answers rerank requests; without it, the retriever's does, if it has one.
        limits: what a request may ask for.
        hosts: the names under which requests are answered; None answers under any. See `host_check`.
        keys: who may ask; None lets everybody in.
        names: what clients may call the encoder besides its spec.
        cors_origins: pages of which origins may ask from a browser; by default none.
        batching: how the queues work; without it, as the limits say.
        answering: the chat endpoint that answers questions; without it, none are answered.
        root: a folder of further collections; see `hosting`.
        data: a folder that is this server's alone, for bulk jobs; of a `root`, by default one in there.
        import_root: below which jobs may read files of the server; None for none.
        tracer: of OpenTelemetry, told of each request; see `tracing`.

    Raises:
        ConfigError: there is neither a retriever nor a model.
    """
    if retriever is None and encoder is None and reranker is None and root is None:
        raise ConfigError("there is nothing to serve: give a collection, an encoder or a reranker")
    limits = limits or ServerLimits()
    service = make_service(
        retriever,
        encoder,
        reranker,
        limits,
        encoders=encoders,
        batching=batching,
        names=names,
        root=root,
        data=data,
        import_root=import_root,
    )
    service.origins = tuple(cors_origins)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()
        answers.close()

    app = FastAPI(
        title="mmseek",
        version=version("mmseek"),
        summary="Search a collection of texts, pictures and both; embed and rerank for other programs.",
        lifespan=lifespan,
        docs_url=None,  # that page would load scripts from another host
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    app.state.answering = answering
    answers = AnswerStore(None if service.data is None else service.data.folder / "idempotency.sqlite")
    # The last one added is the outermost.
    app.add_middleware(Idempotency, store=answers)
    app.add_middleware(RequestScopes, seconds=limits.request_seconds)
    app.add_middleware(
        BodyLimit, max_bytes=limits.max_body_bytes, max_held=limits.max_held_bytes, seconds=limits.body_seconds
    )
    if keys is not None:
        app.add_middleware(KeyCheck, keys=keys)
    if cors_origins:
        app.add_middleware(CORSMiddleware, allow_origins=list(cors_origins), allow_methods=["*"], allow_headers=["*"])
    if hosts is not None:
        app.add_middleware(HostCheck, hosts=hosts)
    if tracer is not None:
        app.add_middleware(Traced, tracer=tracer)
    app.add_middleware(VoyageErrors)
    app.add_middleware(RequestLog, metrics=service.metrics)
    errors.install(app)
    for router in (*ROUTERS, *protocols.ROUTERS):
        app.include_router(router)
    routes.include_collections(app, own=retriever is not None, many=root is not None)
    describe(app)
    _build_routes(app)
    return app


def _build_routes(app: FastAPI) -> None:
    """FastAPI makes the schemas of routes when the first request is looked up; none is to wait for that."""
    for route in app.routes:
        route.matches({"type": "http", "method": "GET", "path": "/", "headers": []})
