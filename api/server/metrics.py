"""What Prometheus is told, in a registry of the application's own. Nothing of any request's content is in it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_POWERS = tuple(2**n for n in range(16))


class Metrics:
    """Counters, gauges and histograms; `model` is `encoder` or `reranker`."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()

        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(f"mmseek_{name}", about, labels, registry=self._registry)

        def gauge(name: str, about: str, *labels: str) -> Gauge:
            return Gauge(f"mmseek_{name}", about, labels, registry=self._registry)

        def histogram(name: str, about: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"mmseek_{name}", about, labels, registry=self._registry, buckets=buckets)

        self.requests = counter("requests", "Requests answered.", "route", "method", "status")
        self.seconds = histogram("request_seconds", "From a request's start to its end.", _SECONDS, "route")
        self.in_flight = gauge("requests_in_flight", "Requests being answered.")
        self.waiting = gauge("queue_calls", "Calls that wait for a model or are with it.", "model")
        self.waiting_cost = gauge("queue_cost", "Estimated tokens of these.", "model")
        self.waited = histogram("call_seconds", "From queued to answered.", _SECONDS, "model")
        self.batch_items = histogram("batch_items", "Items of a batch.", _POWERS, "model")
        self.batch_cost = histogram("batch_cost", "Estimated tokens of a batch.", _POWERS, "model")
        self.batch_seconds = histogram("batch_seconds", "Time of a batch in the model.", _SECONDS, "model")
        self.refused = counter("refused", "Calls refused because too many waited.", "model")
        self.failed = counter("calls_failed", "Calls that ended with an error.", "model", "code")
        self.cache = counter("cache", "Items looked up in the cache of vectors.", "outcome")
        self.worker_lost = counter("worker_lost", "Times that a worker crashed or hung.", "model")
        self.ready = gauge("ready", "1 while the service takes requests, else 0.")

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        return generate_latest(self._registry)
