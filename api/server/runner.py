"""Runs the service until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import structlog
import uvicorn

from mmseek.api.server.app import create_app
from mmseek.api.server.connections import PARSER, protocol_class, raise_file_limit
from mmseek.api.server.host_check import LOCAL_HOSTS
from mmseek.api.server.limits import ServerLimits
from mmseek.api.server.logs import configure_logs
from mmseek.api.server.tracing import tracer_to
from mmseek.api.server.trimming import trimming
from mmseek.config import settings
from mmseek.errors import ConfigError
from mmseek.media import MediaLimits

if TYPE_CHECKING:
    from mmseek.api.server.answering import Answering
    from mmseek.api.server.hosting import CollectionRoot
    from mmseek.api.server.security import KeyRing
    from mmseek.pipeline import Retriever
    from mmseek.pipeline.encoders import AnyEncoder
    from mmseek.protocols import Reranker


_log = structlog.get_logger("mmseek.api")
_LAST_PORT: Final = 65535


def serve(
    retriever: Retriever | None = None,
    *,
    encoder: AnyEncoder | None = None,
    encoders: Sequence[AnyEncoder] = (),
    reranker: Reranker | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: ServerLimits | None = None,
    keys: KeyRing | None = None,
    names: Sequence[str] = (),
    cors_origins: Sequence[str] = (),
    answering: Answering | None = None,
    root: CollectionRoot | None = None,
    data: Path | None = None,
    import_root: Path | None = None,
    otlp_endpoint: str | None = None,
    trace_share: float = 1.0,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve a collection, or models alone, until SIGTERM or Ctrl-C; then finish what was begun, within a bound.

    A model that hangs by then cannot be waited for: the collection is closed, and the process ends with code 1.

    Args:
        retriever: its collection open for writing. Closed on return, whatever happens.
        encoder, encoders, reranker: see `create_app`.
        host: the address to listen on.
        port: 0 takes any free one.
        limits: what a request may ask for; without them the usual ones, and of pictures those of the environment.
        keys: who may ask; None lets in everybody who reaches the address.
        names: what clients may call the encoder besides its spec.
        cors_origins: pages of which origins may ask from a browser.
        answering: see `create_app`.
        root: a folder of further collections.
        data, import_root: see `create_app`.
        otlp_endpoint: where traces are sent; None makes none.
        trace_share: of requests that are traced, 0 to 1.
        on_ready: told the URL once requests are answered.

    Raises:
        ConfigError: the address cannot be listened on, or the endpoint is no address.
        MissingExtra: traces are wanted and OpenTelemetry is not installed.
    """
    hangs = False
    try:
        limits = limits or ServerLimits(media=MediaLimits.from_settings(settings()))
        with _listening(host, port) as listener, tracer_to(otlp_endpoint, trace_share) as tracer:
            configure_logs()
            raise_file_limit()
            app = create_app(
                retriever,
                encoder=encoder,
                encoders=encoders,
                reranker=reranker,
                limits=limits,
                hosts=_hosts(host, listener),
                keys=keys,
                names=names,
                cors_origins=cors_origins,
                answering=answering,
                root=root,
                data=data,
                import_root=import_root,
                tracer=tracer,
            )
            config = uvicorn.Config(
                app,
                access_log=False,
                log_config=None,
                server_header=False,
                http=protocol_class(limits.header_seconds),
                ws="none",
                timeout_graceful_shutdown=limits.drain_seconds,
            )
            server = _Server(config, lambda: on_ready(_url(host, listener)) if on_ready else None)
            # What is loaded stays until the end: looking through it for garbage would hold every request up.
            gc.collect()
            gc.freeze()
            with _stopping_quietly(server), trimming(limits.trim_seconds):
                server.run(sockets=[listener])
            hangs = any(queue.abandoned for queue in app.state.service.queues)
    finally:
        if retriever is not None:
            retriever.close()
    if hangs:
        _end_at_once()


def _end_at_once() -> NoReturn:
    """End a process in which a model hangs: its threads would be waited for, and nothing can end them."""
    _log.error("ended_with_a_hanging_model")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


class _Server(uvicorn.Server):
    """Says when it is ready."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and not self.should_exit:
            _log.info("serving", loop=type(asyncio.get_running_loop()).__module__.partition(".")[0], http=PARSER)
            self._on_ready()


@contextmanager
def _stopping_quietly(server: uvicorn.Server) -> Iterator[None]:
    """Signals end the server and no more.

    Uvicorn raises the signals that it got a second time when it is done. By then the handlers from before it stand
    again, and these would end the process before the collection is closed.
    """
    before = {number: signal.signal(number, server.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    if not 0 <= port <= _LAST_PORT:
        raise ConfigError(f"cannot listen on {host}:{port}: a port is a number from 0 to {_LAST_PORT}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port} ({error.strerror}): choose another host or port") from error
    with listener:
        yield listener


def _hosts(host: str, listener: socket.socket) -> frozenset[str] | None:
    """A server that only this machine reaches answers only under this machine's own names."""
    local = ipaddress.ip_address(listener.getsockname()[0]).is_loopback
    return LOCAL_HOSTS | {_in_url(host)} if local else None


def _url(host: str, listener: socket.socket) -> str:
    return f"http://{_in_url(host)}:{listener.getsockname()[1]}"


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
