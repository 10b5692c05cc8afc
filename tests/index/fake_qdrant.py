"""A server that speaks as much of Qdrant's REST protocol as mmseek uses, over qdrant-client's imitation in memory.

It can be told to fail: each fault is for the next requests whose method and path it names.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, TypeAdapter
from qdrant_client import QdrantClient, models

VECTORS = TypeAdapter(models.VectorsConfig)
MOST_BYTES = 32 * 1024**2


@dataclass
class Fault:
    """What happens to a request: `status` answers, `drop` breaks the connection, `hang` says nothing for a while.

    `after` lets the server do what was asked before it fails.
    """

    kind: str
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    on: str = "PUT .*/points$"
    after: bool = False
    seconds: float = 0.0


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or every answer waits 40 ms

    def log_message(self, *_: object) -> None:
        pass

    def _serve(self) -> None:
        fake: FakeQdrant = self.server.fake
        size = int(self.headers.get("Content-Length") or 0)
        raw = self.rfile.read(size)
        url = urlsplit(self.path)
        request = f"{self.command} {url.path}"
        with fake.guard:
            fake.log.append(f"{self.command} {self.path}")
        fault = fake.take_fault(request)
        if fault is not None and not fault.after:
            self._fail(fault)
            return
        status, answer = self._answer(url.path, parse_qs(url.query), raw)
        if fault is not None:
            self._fail(fault)
            return
        self._send(status, answer)

    def _answer(self, path: str, query: dict[str, list[str]], raw: bytes) -> tuple[int, Any]:
        fake: FakeQdrant = self.server.fake
        if fake.key is not None and self.headers.get("api-key") != fake.key:
            return 401, {"status": {"error": "Must provide an API key"}}
        if len(raw) > MOST_BYTES:
            return 413, {"status": {"error": "too large"}}
        if self.command == "PUT" and path.endswith("/points") and query.get("wait") != ["true"]:
            return 400, {"status": {"error": "nobody waits for this"}}
        try:
            found = fake.answer(self.command, path, json.loads(raw or b"{}"))
        except Exception as error:  # noqa: BLE001  # the imitation raises what it likes
            return 400, {"status": {"error": f"{type(error).__name__}: {error}"}}
        if found is None:
            return 404, {"status": {"error": f"no such path: {path}"}}
        return 200, {"result": _plain(found), "status": "ok", "time": 0.0}

    def _fail(self, fault: Fault) -> None:
        if fault.kind == "status":
            self._send(fault.status, {"status": {"error": "told to fail"}}, fault.headers)
            return
        time.sleep(fault.seconds)
        self.close_connection = True
        if fault.kind == "drop":
            self.connection.close()

    def _send(self, status: int, answer: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_POST = _serve  # noqa: N815  # the names that http.server looks for


class FakeQdrant:
    """The server; a context manager."""

    def __init__(self, key: str | None = None) -> None:
        self.client = QdrantClient(":memory:")
        self.key = key
        self.faults: list[Fault] = []
        self.log: list[str] = []  # every request: method, path and query
        self.indexes: dict[str, dict[str, str]] = {}
        self.guard = threading.RLock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._http.fake = self
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._http.server_port}"

    def location(self, name: str = "things", query: str = "") -> str:
        return f"qdrant://{self.address}/{name}{query}"

    def take_fault(self, request: str) -> Fault | None:
        with self.guard:
            for fault in self.faults:
                if re.search(fault.on, request):
                    self.faults.remove(fault)
                    return fault
        return None

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def answer(self, method: str, path: str, body: dict[str, Any]) -> Any:
        """What Qdrant answers, or None where it has no such path."""
        for (verb, pattern), act in ROUTES.items():
            match = re.fullmatch(pattern, path)
            if verb == method and match:
                with self.guard:
                    return act(self, match["name"], body)
        return None


def _create(fake: FakeQdrant, name: str, body: dict[str, Any]) -> Any:
    sparse = {key: models.SparseVectorParams(**value) for key, value in body["sparse_vectors"].items()}
    fake.client.create_collection(
        name, vectors_config=VECTORS.validate_python(body["vectors"]), sparse_vectors_config=sparse
    )
    return True


def _describe(fake: FakeQdrant, name: str, _: dict[str, Any]) -> Any:
    described = fake.client.get_collection(name).model_dump(mode="json")
    described["payload_schema"] = {
        key: {"data_type": kind, "points": 0} for key, kind in fake.indexes.get(name, {}).items()
    }
    return described


def _index(fake: FakeQdrant, name: str, body: dict[str, Any]) -> Any:
    fake.indexes.setdefault(name, {})[body["field_name"]] = body["field_schema"]
    return {"operation_id": 1, "status": "completed"}


def _upsert(fake: FakeQdrant, name: str, body: dict[str, Any]) -> Any:
    return fake.client.upsert(name, [models.PointStruct.model_validate(point) for point in body["points"]])


def _scroll(fake: FakeQdrant, name: str, body: dict[str, Any]) -> Any:
    body = models.ScrollRequest.model_validate(body)
    points, after = fake.client.scroll(
        name,
        scroll_filter=body.filter,
        limit=body.limit,
        order_by=body.order_by,
        with_payload=body.with_payload,
        with_vectors=body.with_vector,
    )
    return models.ScrollResult(points=points, next_page_offset=after)


def _query(fake: FakeQdrant, name: str, body: dict[str, Any]) -> Any:
    body = models.QueryRequest.model_validate(body)
    return fake.client.query_points(
        name,
        query=body.query,
        using=body.using,
        query_filter=body.filter,
        limit=body.limit,
        with_payload=body.with_payload,
    )


def _count(fake: FakeQdrant, name: str, body: dict[str, Any]) -> Any:
    return fake.client.count(name, count_filter=models.CountRequest.model_validate(body).filter)


def _facet(fake: FakeQdrant, name: str, body: dict[str, Any]) -> Any:
    if body["key"] not in fake.indexes.get(name, {}):
        raise ValueError(f"no index for {body['key']}")
    return fake.client.facet(name, body["key"], limit=body["limit"], exact=True)


ROUTES: dict[tuple[str, str], Callable[[FakeQdrant, str, dict[str, Any]], Any]] = {
    ("GET", "/collections/(?P<name>[^/]+)/exists"): lambda fake, name, _: {
        "exists": fake.client.collection_exists(name)
    },
    ("PUT", "/collections/(?P<name>[^/]+)"): _create,
    ("GET", "/collections/(?P<name>[^/]+)"): _describe,
    ("PUT", "/collections/(?P<name>[^/]+)/index"): _index,
    ("PUT", "/collections/(?P<name>[^/]+)/points"): _upsert,
    ("POST", "/collections/(?P<name>[^/]+)/points"): lambda fake, name, body: fake.client.retrieve(
        name, body["ids"], with_payload=body.get("with_payload", True)
    ),
    ("POST", "/collections/(?P<name>[^/]+)/points/delete"): lambda fake, name, body: fake.client.delete(
        name, models.PointIdsList(points=body["points"])
    ),
    ("POST", "/collections/(?P<name>[^/]+)/points/scroll"): _scroll,
    ("POST", "/collections/(?P<name>[^/]+)/points/query"): _query,
    ("POST", "/collections/(?P<name>[^/]+)/points/count"): _count,
    ("POST", "/collections/(?P<name>[^/]+)/facet"): _facet,
}


def _plain(answer: Any) -> Any:
    if isinstance(answer, BaseModel):
        return answer.model_dump(mode="json")
    return [_plain(one) for one in answer] if isinstance(answer, list) else answer
