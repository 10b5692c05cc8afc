from __future__ import annotations

import contextlib
import io
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import PIL.Image
import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says more about the machine than about the code.
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")


@dataclass
class FakeChat:
    """A chat endpoint that answers as it is told, in pieces of four letters, and keeps what it receives.

    `answers` are given one after the other, the last again and again; a number is a status to refuse with, an object
    the whole of what is sent, and a function makes the answer of the request's body.
    """

    url: str = ""
    answers: list[Any] = field(default_factory=lambda: ["It is red [1]."])
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    whole: bool = False
    cut: bool = False
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def system(self) -> str:
        return str(self.bodies[-1]["messages"][0]["content"])

    @property
    def parts(self) -> list[dict[str, Any]]:
        """The parts of the last user message."""
        return list(self.bodies[-1]["messages"][1]["content"])

    @property
    def text(self) -> str:
        return "\n".join(part.get("text", "<picture>") for part in self.parts)


@pytest.fixture
def fake_chat() -> Iterator[FakeChat]:
    """A chat endpoint on a free port of this machine."""
    chat = FakeChat()
    turn = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            key = self.headers.get("authorization")
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with turn:
                chat.paths.append(self.path)
                chat.keys.append(key)
                chat.bodies.append(body)
                answer = chat.answers.pop(0) if len(chat.answers) > 1 else chat.answers[0]
            answer = answer(body) if callable(answer) else answer
            if isinstance(answer, int):
                key = (key or "").removeprefix("Bearer ")
                self._send(answer, "application/json", json.dumps({"error": {"message": f"no, {key}\nnot now"}}))
            elif isinstance(answer, dict):
                self._send(200, "application/json", json.dumps(answer))
            elif chat.whole or not body["stream"]:
                self._send(200, "application/json", json.dumps({"choices": [{"message": {"content": answer}}]}))
            else:
                pieces = [answer[start : start + 4] for start in range(0, len(answer), 4)]
                rows = [json.dumps({"choices": [{"delta": {"content": piece}}]}) for piece in pieces]
                events = [": a comment", *(f"data: {row}" for row in rows), "data: [DONE]"]
                self._send(200, "text/event-stream", "\n\n".join(events) + "\n\n", short=chat.cut)

        def _send(self, status: int, kind: str, body: str, *, short: bool = False) -> None:
            data = body.encode()
            self.send_response(status)
            for name, value in {"content-type": kind, **chat.headers}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(data) + (1000 if short else 0)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if short else data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    chat.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield chat
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def png() -> Callable[[str], bytes]:
    """Encoded bytes of a small picture of one colour."""

    def encode(colour: str) -> bytes:
        buffer = io.BytesIO()
        PIL.Image.new("RGB", (4, 4), colour).save(buffer, format="PNG")
        return buffer.getvalue()

    return encode


@pytest.fixture
def make_pdf() -> Callable[..., bytes]:
    """A PDF with a page for each text."""

    def make(texts: Sequence[str], *, encrypted: bool = False) -> bytes:
        pages = " ".join(f"{number} 0 R" for number in range(4, 4 + 2 * len(texts), 2))
        objects = [
            "<</Type/Catalog/Pages 2 0 R>>",
            f"<</Type/Pages/Count {len(texts)}/Kids[{pages}]>>",
            "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        ]
        page = "<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Resources<</Font<</F1 3 0 R>>>>"
        for text in texts:
            stream = f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET"
            contents = len(objects) + 2
            objects += [
                f"{page}/Contents {contents} 0 R>>",
                f"<</Length {len(stream)}>>stream\n{stream}\nendstream",
            ]
        if encrypted:
            key = "00" * 32
            objects.append(f"<</Filter/Standard/V 1/R 2/O<{key}>/U<{key}>/P -4>>")
        body, places = "%PDF-1.4\n", []
        for number, each in enumerate(objects, start=1):
            places.append(len(body))
            body += f"{number} 0 obj\n{each}\nendobj\n"
        lock = f"/Encrypt {len(objects)} 0 R/ID[<00><00>]" if encrypted else ""
        table = "".join(f"{place:010} 00000 n \n" for place in places)
        start = len(body)
        body += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
        body += f"trailer<</Size {len(objects) + 1}/Root 1 0 R{lock}>>\nstartxref\n{start}\n%%EOF"
        return body.encode("latin-1")

    return make


@dataclass
class Web:
    """A server on a free port of this machine. `pages`: path -> (status, headers, body), or what makes it."""

    port: int = 0
    pages: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def url(self, path: str, host: str = "public.example") -> str:
        return f"http://{host}:{self.port}{path}"


@pytest.fixture
def web() -> Iterator[Web]:
    found = Web()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            found.asked.append((self.path, headers))
            page = found.pages.get(self.path.partition("?")[0], (404, {}, b"no"))
            status, more, body = page(headers) if callable(page) else page
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), "Connection": "close", **more}.items():
                self.send_header(name, value)
            with contextlib.suppress(ConnectionError):  # whoever asked may have hung up
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    found.port = server.server_port
    yield found
    server.shutdown()
    server.server_close()
    thread.join()
