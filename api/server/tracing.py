"""Traces of requests by OpenTelemetry: queue -> encode -> search -> queue -> rerank, each a span under the request's.

Off unless an endpoint is set. Spans have names, times and counts, and nothing of what a request or a document holds.
Sources: the OpenTelemetry specification; W3C Trace Context for `traceparent`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import structlog

from mmseek.errors import ConfigError, MissingExtra
from mmseek.pipeline.stages import observe_stages

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Probes come every few seconds and tell nothing.
_UNTRACED: Final = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})
_SERVER_ERROR: Final = 500
_FLUSH_MILLISECONDS: Final = 5000

_log = structlog.get_logger("mmseek.api")


class _Clock:
    """The time in nanoseconds since 1970 by the monotonic clock, set once: the spans of a request keep their order."""

    def __init__(self) -> None:
        self._zero = time.time_ns() - time.monotonic_ns()

    def now(self) -> int:
        return self._zero + time.monotonic_ns()

    def at(self, seconds: float) -> int:
        """Of a moment on the monotonic clock."""
        return self._zero + int(seconds * 1e9)


class RequestTrace:
    """Tells a tracer of the steps of one request; see `StageObserver`.

    Args:
        tracer: of OpenTelemetry.
        context: in which the request's span is the current one.
        clock: of this request.
    """

    def __init__(self, tracer: Any, context: Any, clock: _Clock) -> None:
        self._tracer = tracer
        self._context = context
        self._clock = clock

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        from opentelemetry import trace

        span = self._tracer.start_span(name, context=self._context, start_time=self._clock.now())
        try:
            with trace.use_span(span):
                yield
        finally:
            span.end(self._clock.now())

    def record(self, name: str, began: float, ended: float, **about: str | float) -> None:
        at = self._clock.at
        self._tracer.start_span(name, context=self._context, start_time=at(began), attributes=about).end(at(ended))


class Traced:
    """A span around each request, below the caller's if it sent a `traceparent`."""

    def __init__(self, app: ASGIApp, tracer: Any) -> None:
        self.app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http" or scope["path"] in _UNTRACED:
            await self.app(scope, receive, send)
            return
        from opentelemetry import trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        above = TraceContextTextMapPropagator().extract(headers)
        clock = _Clock()
        span = self._tracer.start_span(
            scope["method"], context=above, kind=trace.SpanKind.SERVER, start_time=clock.now()
        )
        status = 0

        async def send_noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        state = scope.setdefault("state", {})
        state["trace_id"] = trace.format_trace_id(span.get_span_context().trace_id)
        observe_stages(RequestTrace(self._tracer, trace.set_span_in_context(span, above), clock))
        try:
            await self.app(scope, receive, send_noting)
        finally:
            # The pattern, not the path: a path has a document's id.
            route = getattr(scope.get("route"), "path", "none")
            span.update_name(f"{scope['method']} {route}")
            span.set_attributes({"http.request.method": scope["method"], "http.route": route})
            span.set_attribute("http.response.status_code", status)
            span.set_attribute("mmseek.request_id", state.get("request_id", ""))
            if not status or status >= _SERVER_ERROR:
                span.set_status(trace.StatusCode.ERROR)
            span.end(clock.now())


@contextmanager
def tracer_to(endpoint: str | None, share: float = 1.0) -> Iterator[Any]:
    """A tracer whose spans are sent to an OTLP/HTTP endpoint, as long as this is open; None without an endpoint.

    Args:
        endpoint: `http://collector:4318/v1/traces`, or without the path.
        share: of requests that are traced, 0 to 1, where the caller has not decided it.

    Raises:
        MissingExtra: OpenTelemetry is not installed.
        ConfigError: the endpoint is no address.
    """
    if endpoint is None:
        yield None
        return
    address = _address(endpoint)
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise MissingExtra("sending traces", "otel") from error
    _log_complaints()
    provider = make_provider(share)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=address)))
    try:
        yield provider.get_tracer("mmseek.api")
    finally:
        provider.force_flush(_FLUSH_MILLISECONDS)
        provider.shutdown()


def make_provider(share: float = 1.0) -> Any:
    """A provider of tracers that send nothing yet."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    about = Resource.create({"service.name": "mmseek", "service.version": version("mmseek")})
    return TracerProvider(resource=about, sampler=ParentBased(TraceIdRatioBased(share)), shutdown_on_exit=False)


def _address(endpoint: str) -> str:
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{endpoint!r} is no address to send traces to: write it as http://HOST:4318/v1/traces")
    return endpoint if parts.path.strip("/") else f"{endpoint.rstrip('/')}/v1/traces"


class _Complaints(logging.Handler):
    """OpenTelemetry's warnings as lines of the service's log."""

    def emit(self, record: logging.LogRecord) -> None:
        _log.warning("tracing", message=record.getMessage()[:500])


def _log_complaints() -> None:
    logger = logging.getLogger("opentelemetry")
    if not any(isinstance(handler, _Complaints) for handler in logger.handlers):
        logger.addHandler(_Complaints(logging.WARNING))
        logger.propagate = False
