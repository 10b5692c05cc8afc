"""`POST /v1/ask`: the same answer as in one process, whole or as events, within the operator's bounds."""

import asyncio
import base64
import io
import json
import socket
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from fastapi.testclient import TestClient
from PIL import Image as Pil

from mmseek import Content, Document, Image, Text
from mmseek.api.server import Answering, ServerLimits, create_app
from mmseek.api.server.hosting import CollectionRoot
from mmseek.api.server.security import KeyRing
from mmseek.api.server.security.keys import new_key
from mmseek.api.server.waiting import EventStream
from mmseek.errors import ConfigError, EndpointError
from mmseek.pipeline.chat import Chat
from mmseek.pipeline.context import Budget

BIKE = {"text": "bike colour", "mode": "lexical"}


@pytest.fixture
def filled(retriever, helpers):
    region = {"title": "Report", "page": 3, "region": [72, 90.5, 300, 120]}
    retriever.add(
        [
            Document("r.pdf#3", Content.of("The bike of the harbour master is red."), region, "r.pdf"),
            Document("map", Content((Image(data=helpers.picture("blue")), Text("A map of the harbour.")))),
        ]
    )
    return retriever


@pytest.fixture
def ask(filled, fake_chat):
    """Asks a service whose endpoint is the fake one."""
    opened = []

    def post(body, *, at_once=8, limits=None, headers=None, **chat):
        answering = Answering(Chat(fake_chat.url, "qwen", wait=0.01, **chat), Budget(5000, 4), at_once)
        client = TestClient(create_app(filled, answering=answering, limits=limits or ServerLimits()))
        opened.append(client)
        client.__enter__()
        return client.post("/v1/ask", json=body, headers=headers)

    yield post
    for client in opened:
        client.__exit__(None, None, None)


def events_of(text):
    found = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_an_answer_with_document_page_and_region(ask, fake_chat):
    answer = ask(BIKE).json()

    assert (answer["answer"], answer["found"], answer["citations"]) == ("It is red [1].", True, [1])
    (source,) = answer["sources"]
    assert (source["id"], source["document"], source["page"]) == ("r.pdf#3", "r.pdf", 3)
    assert source["region"] == [72.0, 90.5, 300.0, 120.0]
    assert fake_chat.bodies[0]["model"] == "qwen"
    assert "The bike of the harbour master is red." in fake_chat.text


def test_events_say_the_same(ask):
    whole = ask(BIKE).json()
    streamed = ask(BIKE | {"stream": True})

    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert streamed.headers["cache-control"] == "no-store"
    assert streamed.headers["x-accel-buffering"] == "no"
    names, data = zip(*events_of(streamed.text), strict=True)
    assert names == ("sources", "text", "text", "text", "text", "answer")
    assert "".join(each["text"] for each in data[1:-1]) == "It is red [1]."
    assert data[0]["sources"] == whole["sources"]
    assert {**data[-1], "took_ms": 0} == {**whole, "took_ms": 0}


def test_a_question_with_a_picture(ask, fake_chat, helpers):
    picture = helpers.data_uri(helpers.picture("red"))
    body = {"content": [{"type": "image", "image": picture}, {"type": "text", "text": "map"}], "mode": "lexical"}

    fake_chat.answers = ["map", "Blue [1]."]
    answer = ask(body | {"requery": True}).json()

    assert answer["sources"][0]["images"] == ["/v1/documents/map/images/0"]
    sent = [part["image_url"]["url"] for part in fake_chat.parts if part["type"] == "image_url"]
    colours = [Pil.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).getpixel((0, 0)) for uri in sent]
    assert [colour.index(max(colour)) for colour in colours] == [2, 0]
    assert len(fake_chat.bodies) == 2
    refused = ask({"image": "https://example.org/a.png"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "url_refused")


@pytest.mark.parametrize("stream", [False, True])
def test_a_question_to_a_collection_by_its_name(tmp_path, encoder, fake_chat, stream):
    answering = Answering(Chat(fake_chat.url, "qwen", wait=0.01))
    # One handle at a time: the answer's own must have been given back before another collection can be opened.
    root = CollectionRoot(tmp_path / "root", [encoder], max_open=1)
    with TestClient(create_app(root=root, answering=answering)) as client:
        for name in ("photos", "notes"):
            client.post("/v1/collections", json={"name": name})
        item = {"id": "a", "text": "The bike is red."}
        client.post("/v1/collections/photos/documents", json={"documents": [item]})
        answer = client.post("/v1/collections/photos/ask", json=BIKE | {"stream": stream})
        told = events_of(answer.text)[-1][1] if stream else answer.json()
        assert (told["answer"], [source["id"] for source in told["sources"]]) == ("It is red [1].", ["a"])
        assert client.post("/v1/collections/notes/ask", json=BIKE).json()["found"] is False
        assert client.post("/v1/collections/none/ask", json=BIKE).status_code == 404
        assert client.delete("/v1/collections/photos").status_code == 200


def test_not_in_the_corpus_without_asking(ask, fake_chat):
    nothing = ask(BIKE | {"threshold": 1e9}).json()
    assert (nothing["answer"], nothing["found"], nothing["below_threshold"]) == ("not in the corpus", False, 1)
    names = [name for name, _ in events_of(ask({"text": "zeppelin", "mode": "lexical", "stream": True}).text)]
    assert names == ["sources", "text", "answer"]
    assert fake_chat.bodies == []


@pytest.mark.parametrize(
    ("field", "value"), [("max_tokens", 2000), ("context_chars", 6000), ("pictures", 5), ("k", 2000)]
)
def test_a_request_stays_within_the_operators_bounds(ask, fake_chat, field, value):
    refused = ask(BIKE | {field: value})
    assert refused.status_code == 400
    assert f"{field} is {value}" in refused.json()["error"]["message"]
    assert ask(BIKE | {"max_tokens": 7, "context_chars": 20, "pictures": 0}).status_code == 200
    assert fake_chat.bodies[-1]["max_tokens"] == 7


@pytest.mark.parametrize(
    "body", [{}, {"text": " "}, BIKE | {"url": "http://evil"}, BIKE | {"model": "x"}, BIKE | {"k": 0}]
)
def test_the_endpoint_is_not_the_callers_to_choose(ask, body, fake_chat):
    assert ask(body).status_code in (400, 422)
    assert fake_chat.bodies == []


def test_a_failing_endpoint_is_told_without_its_address(ask, fake_chat):
    fake_chat.answers = [401]
    for stream in (False, True):
        refused = ask(BIKE | {"stream": stream}, api_key="sk-secret")
        name, body = events_of(refused.text)[-1] if stream else ("error", refused.json())
        assert name == "error"
        assert refused.status_code == (200 if stream else 502)
        assert body["error"]["code"] == "endpoint_failed"
        assert "chat endpoint" in body["error"]["message"]
        assert fake_chat.url not in refused.text
        assert "sk-secret" not in refused.text
    fake_chat.answers = [401]
    assert ask(BIKE | {"stream": True, "requery": True}).status_code == 502, "nothing was sent before"


def test_without_an_endpoint_it_is_not_offered(client):
    refused = client.post("/v1/ask", json=BIKE)
    assert (refused.status_code, refused.json()["error"]["code"]) == (501, "not_offered")
    assert "--llm-url" in refused.json()["error"]["message"]
    assert client.get("/v1/ask").json()["available"] is False


def test_what_is_offered_is_told_without_the_address(filled, fake_chat):
    with TestClient(create_app(filled, answering=Answering(Chat(fake_chat.url, "qwen", "sk-secret")))) as client:
        offered = client.get("/v1/ask")
    assert offered.json() == {
        "available": True,
        "model": "qwen",
        "max_tokens": 1024,
        "context_chars": 12_000,
        "pictures": 6,
    }


def test_a_key_of_scope_read_is_enough(filled, fake_chat):
    secret, key = new_key("reader")
    answering = Answering(Chat(fake_chat.url, "qwen"))
    with TestClient(create_app(filled, answering=answering, keys=KeyRing([key]))) as client:
        assert client.post("/v1/ask", json=BIKE).status_code == 401
        assert client.post("/v1/ask", json=BIKE, headers={"authorization": f"Bearer {secret}"}).status_code == 200


class SlowChat:
    """An endpoint that sends one piece and then nothing, and knows whether its client is still there."""

    def __init__(self):
        self.asked, self.hung_up = threading.Event(), threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.end_headers()
                self.wfile.write(b'data: {"choices": [{"delta": {"content": "It"}}]}\n\n')
                self.wfile.flush()
                outer.asked.set()
                self.connection.settimeout(120)
                with suppress(ConnectionResetError):  # which is hanging up too
                    if self.connection.recv(1) != b"":
                        return
                outer.hung_up.set()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"


@pytest.fixture
def slow_chat():
    chat = SlowChat()
    yield chat
    chat.server.shutdown()
    chat.server.server_close()
    chat.thread.join()


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_ends_the_endpoints_work(serve_models, filled, slow_chat, stream):
    url = httpx.URL(serve_models(filled, answering=Answering(Chat(slow_chat.url, "m"), at_once=1)))
    body = json.dumps(BIKE | {"stream": stream}).encode()
    with socket.create_connection((url.host, url.port)) as connection:
        head = f"POST /v1/ask HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
        connection.sendall(f"{head}content-type: application/json\r\n\r\n".encode() + body)
        assert slow_chat.asked.wait(120)
        busy = httpx.post(f"{url}/v1/ask", json=BIKE, timeout=120)
        assert (busy.status_code, busy.headers["retry-after"]) == (429, "5")
    assert slow_chat.hung_up.wait(120)


def test_an_answer_has_the_deadline_of_its_request(serve_models, filled, slow_chat):
    url = serve_models(filled, answering=Answering(Chat(slow_chat.url, "m"), at_once=1))
    httpx.post(f"{url}/v1/search", json=BIKE, timeout=120)  # what is loaded at the first search is loaded
    late = httpx.post(f"{url}/v1/ask", json=BIKE, headers={"x-request-timeout": "0.5"}, timeout=120)
    assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
    body = BIKE | {"stream": True}
    events = httpx.post(f"{url}/v1/ask", json=body, headers={"x-request-timeout": "4"}, timeout=120)
    assert [name for name, _ in events_of(events.text)] == ["sources", "text", "error"]
    assert slow_chat.hung_up.wait(120)


async def test_a_stream_says_that_it_waits_and_closes_what_it_reads_from():
    sent, closed, go_on = [], [], asyncio.Event()

    async def events():
        try:
            await go_on.wait()
            yield "answer", {"text": "\ud800"}
            raise EndpointError("secret://address broke off")
        finally:
            closed.append(True)

    async def send(message):
        sent.append(message.get("body", b""))
        if sent.count(b": waiting\n\n") == 2:
            go_on.set()

    await EventStream(("sources", {}), events(), silence=0.01)({"state": {"request_id": "r1"}}, None, send)

    text = b"".join(sent).decode()
    assert [name for name, _ in events_of(text.replace(": waiting\n\n", ""))] == ["sources", "answer", "error"]
    assert text.count(": waiting") >= 2
    assert "request r1" in text
    assert "secret" not in text
    assert closed == [True]


async def test_a_stream_that_cannot_be_sent_closes_what_it_reads_from():
    closed = []

    async def events():
        try:
            yield "text", {}
            await asyncio.sleep(60)
        finally:
            closed.append(True)

    async def send(message):
        if message.get("body"):
            raise OSError("gone")

    stream = events()
    answer = EventStream(await anext(stream), stream)
    with pytest.raises(OSError, match="gone"):
        await answer({"state": {"request_id": "r1"}}, None, send)
    assert closed == [True]


def test_settings_that_make_no_sense():
    with pytest.raises(ConfigError, match="at least 1"):
        Answering(Chat("http://localhost/v1", "m"), at_once=0)
