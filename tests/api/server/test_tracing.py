"""Traces: what is told of a request, under whose span, and that nothing is told unless it is asked for."""

import sys
import time

import pytest
import structlog
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from mmseek.api.server import create_app
from mmseek.api.server.tracing import make_provider, tracer_to
from mmseek.errors import ConfigError, MissingExtra
from mmseek.pipeline import Retriever
from mmseek.pipeline.stages import stage_observer
from mmseek.testing import FakeReranker


@pytest.fixture
def spans():
    return InMemorySpanExporter()


@pytest.fixture
def traced(retriever, spans):
    provider = make_provider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    both = Retriever(retriever.encoder, retriever.collection, reranker=FakeReranker(lambda pair: 1.0))
    with TestClient(create_app(both, tracer=provider.get_tracer("test"))) as client:
        yield client
    provider.shutdown()


def named(spans):
    found = {}
    for span in spans.get_finished_spans():
        found.setdefault(span.name, []).append(span)
    return found


def test_a_search_is_told_step_by_step(traced, spans):
    assert (
        traced.post("/v1/documents", json={"documents": [{"id": "secret", "text": "hidden words"}]}).status_code == 200
    )
    spans.clear()
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answer = traced.post("/v1/search", json={"text": "hidden"}, headers={"traceparent": parent})
    assert len(answer.json()["hits"]) == 1
    found = named(spans)
    assert {name: len(each) for name, each in found.items()} == {
        "POST /v1/search": 1,
        "queue": 2,
        "encode": 1,
        "search": 1,
        "rerank": 1,
    }
    (request,) = found.pop("POST /v1/search")
    assert f"{request.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{request.parent.span_id:016x}" == "b7ad6b7169203331"
    assert request.attributes["http.response.status_code"] == 200
    assert request.attributes["mmseek.request_id"] == answer.headers["x-request-id"]
    steps = [span for each in found.values() for span in each]
    assert {span.parent.span_id for span in steps} == {request.context.span_id}
    order = sorted(steps, key=lambda span: span.start_time)
    assert [span.name for span in order] == ["queue", "encode", "search", "queue", "rerank"]
    for span in steps:
        assert request.start_time <= span.start_time <= span.end_time <= request.end_time
    assert not any("hidden" in str(span.attributes) or "secret" in str(span.attributes) for span in [request, *steps])


def test_a_path_is_told_as_its_pattern_and_probes_are_not_told(traced, spans):
    traced.get("/v1/documents/somebody")
    traced.get("/nowhere/somebody")
    for path in ("/health", "/health/ready", "/metrics"):
        traced.get(path)
    names = set(named(spans))
    assert len(names) == 2
    assert "GET none" in names
    assert not any("somebody" in str((span.name, dict(span.attributes))) for span in spans.get_finished_spans())


def test_a_fault_of_the_server_is_an_error_and_a_clients_is_not(traced, spans, retriever, monkeypatch):
    traced.post("/v1/search", json={"k": "many"})
    assert spans.get_finished_spans()[-1].status.status_code is StatusCode.UNSET
    monkeypatch.setattr(retriever.collection, "search", lambda *_, **__: 1 / 0)
    with structlog.testing.capture_logs() as logs:
        assert traced.post("/v1/search", json={"text": "x"}).status_code == 500
    (request,) = named(spans)["POST /v1/search"][1:]
    assert request.status.status_code is StatusCode.ERROR
    assert f"{request.context.trace_id:032x}" in {entry.get("trace_id") for entry in logs}
    (search,) = named(spans)["search"]
    assert search.status.status_code is StatusCode.ERROR


def test_nothing_is_told_unless_it_is_asked_for(client):
    assert client.post("/v1/search", json={"text": "x"}).status_code == 200
    assert stage_observer() is None
    with tracer_to(None) as tracer:
        assert tracer is None


def test_an_endpoint_that_is_away_does_not_keep_the_server(free_port, monkeypatch):
    monkeypatch.setattr("mmseek.api.server.tracing._FLUSH_MILLISECONDS", 500)
    began = time.monotonic()
    with tracer_to(f"http://127.0.0.1:{free_port}") as tracer:
        tracer.start_span("lost").end()
    assert time.monotonic() - began < 60


@pytest.fixture
def free_port():
    import socket

    with socket.socket() as held:  # so that nobody else comes to listen there
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.mark.parametrize("endpoint", ["collector:4318", "ftp://collector", "http://", "x"])
def test_what_is_no_endpoint_is_said_so(endpoint):
    with pytest.raises(ConfigError, match="is no address to send traces to"), tracer_to(endpoint):
        pass


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(MissingExtra, match=r"mmseek\[otel\]"), tracer_to("http://127.0.0.1:4318"):
        pass
