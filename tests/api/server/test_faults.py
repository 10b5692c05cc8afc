"""Nothing that a request holds, and nothing that a model does, ends the service."""

import threading

import pytest
import structlog
from fastapi.testclient import TestClient

from mmseek._types import Encoded
from mmseek.api.server import ServerLimits, create_app
from mmseek.api.server.batching import BatcherOptions
from mmseek.errors import EncodeError
from mmseek.testing import FakeEncoder


class Faulty(FakeEncoder):
    """Does to a batch what the first of its items that names a fault asks for."""

    def __init__(self):
        super().__init__()
        self.batches = []
        self.release = threading.Event()
        self.may_restart = threading.Event()
        self.may_restart.set()
        self.broken = False

    def stream(self, requests):
        requests = list(requests)
        self.batches.append(len(requests))
        if self.broken:
            raise RuntimeError("CUDA error: device-side assert triggered at 0x7f00")
        texts = [request.content.text for request in requests]
        if texts == ["ready?"]:  # what a new worker is tried with
            assert self.may_restart.wait(120)
        if any("explode" in text for text in texts):
            raise RuntimeError("secret at 0x7f00")
        if "die" in texts:
            raise SystemExit("the thread ends")
        if "hang" in texts:
            assert self.release.wait(120)
        if "memory" in texts and len(requests) > 2:
            raise MemoryError("too many at once")
        if "enormous" in texts:
            raise RuntimeError("CUDA out of memory. Tried to allocate 99 GiB")
        if "few" in texts:
            return
        yield from super().stream(requests)


@pytest.fixture
def encoder():
    made = Faulty()
    yield made
    made.may_restart.set()
    made.release.set()


@pytest.fixture
def make(encoder):
    opened = []

    def make(**options):
        app = create_app(
            encoder=encoder,
            limits=ServerLimits(cache_bytes=0),
            batching=BatcherOptions(**({"stuck_seconds": 30, "backoff_seconds": 0.01} | options)),
        )
        client = TestClient(app)
        client.__enter__()
        opened.append(client)
        return client

    yield make
    encoder.release.set()
    for client in opened:
        client.__exit__(None, None, None)


def ask(client, *texts, **headers):
    return client.post("/v1/embeddings", json={"input": list(texts)}, headers=headers)


def ask_beside(client, *calls):
    """Ask all of these at once; their answers in order."""
    answers = [None] * len(calls)

    def one(place):
        answers[place] = ask(client, *calls[place])

    threads = [threading.Thread(target=one, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    return threads, answers


def code(answer):
    return answer.status_code, answer.json()["error"]["code"]


def ready(client):
    return client.get("/health/ready").status_code


def test_poison_inputs_fail_alone(make, helpers):
    """What ends or starves other servers: each is answered by one sentence, and the next request is served."""
    client = make()
    whole = helpers.picture("red", kind="JPEG", size=(64, 64))
    poison = {
        "a truncated JPEG": (whole[:-200], (422, "bad_media")),
        "13000 x 13000 pixels of one bit": (helpers.header_bomb(), (413, "media_too_large")),
        "a PNG's first bytes": (b"\x89PNG\r\n\x1a\n", (422, "bad_media")),
        "no picture at all": (b"hello", (422, "bad_media")),
    }
    for name, (data, expected) in poison.items():
        answer = client.post("/v1/embeddings", json={"input": ["fine", {"image": helpers.data_uri(data)}]})
        assert code(answer) == expected, name
        assert answer.json()["error"]["message"].startswith("input[1]: ")
        assert ask(client, "fine").status_code == 200
    for body in (b"", b"{", b"null", b'{"input":' * 10_000):
        answer = client.post("/v1/embeddings", content=body, headers={"content-type": "application/json"})
        assert answer.status_code in (400, 422)
    assert ready(client) == 200


def test_a_thousand_tiny_pictures_are_one_request(make, helpers):
    client = make()
    uris = [helpers.data_uri(helpers.picture((n % 256, n // 256, 7), size=(1, 1))) for n in range(1000)]
    answer = client.post("/v1/embeddings", json={"input": [{"image": uri} for uri in uris]})
    assert answer.status_code == 200
    assert [each["index"] for each in answer.json()["data"]] == list(range(1000))


def test_an_item_that_the_model_chokes_on_does_not_touch_its_neighbours(make, encoder, helpers):
    client = make(batch_cost=1000)
    threads, first = ask_beside(client, ("hang",))
    helpers.wait_until(lambda: encoder.batches == [1])
    calls = [("a",), ("b", "c"), ("explode",), ("d",)]
    more, answers = ask_beside(client, *calls)
    helpers.wait_until(lambda: len(client.app.state.service.encoder_queue._unanswered) == 5)
    with structlog.testing.capture_logs():
        encoder.release.set()
        for thread in threads + more:
            thread.join(120)
    assert first[0].status_code == 200
    assert [answer.status_code for answer in answers] == [200, 200, 500, 200]
    assert code(answers[2]) == (500, "internal_error")
    assert "secret" not in answers[2].text
    assert encoder.batches[1] == 5  # they did share a batch
    assert ready(client) == 200


def test_out_of_memory_halves_the_batch(make, encoder):
    client = make()
    answer = ask(client, "memory", "a", "b", "c", "d", "e", "f", "g")
    assert answer.status_code == 200
    assert encoder.batches[:3] == [8, 4, 2]
    alone = ask(client, "enormous")
    assert code(alone) == (422, "not_encodable")
    assert "does not fit into memory" in alone.json()["error"]["message"]
    assert ready(client) == 200


def test_a_model_that_answers_too_little_is_told(make):
    client = make()
    with structlog.testing.capture_logs():
        assert code(ask(client, "few"))[0] == 500
    assert ask(client, "fine").status_code == 200


def test_a_crashed_worker_is_replaced_and_its_requests_are_told(make, encoder, helpers):
    client = make()
    encoder.may_restart.clear()
    with structlog.testing.capture_logs() as logs:
        answer = ask(client, "die")
        assert code(answer) == (503, "worker_lost")
        assert answer.headers["retry-after"] == "1"
        assert client.get("/health/ready").json() == {"status": "unavailable", "reason": "worker_restarting"}
        assert client.get("/health/live").status_code == 200
        (thread,), answers = ask_beside(client, ("waits for the new worker",))
        helpers.wait_until(lambda: client.app.state.service.encoder_queue._unanswered)
        encoder.may_restart.set()
        thread.join(120)
    assert answers[0].status_code == 200
    assert ready(client) == 200
    assert {"worker_lost", "worker_ready"} <= {entry["event"] for entry in logs}
    assert 'mmseek_worker_lost_total{model="encoder"} 1.0' in client.get("/metrics").text


def test_a_stuck_worker_is_replaced_and_what_it_says_later_is_ignored(make, encoder, helpers):
    client = make(stuck_seconds=0.5)
    queue = client.app.state.service.encoder_queue
    with structlog.testing.capture_logs():
        assert code(ask(client, "hang")) == (503, "worker_lost")
        # A machine that stands still for half a second makes the new worker look stuck too, and replaces it in turn.
        helpers.wait_until(lambda: ask(client, "fine").status_code == 200)
        helpers.wait_until(lambda: ready(client) == 200)
    assert queue.abandoned
    encoder.release.set()
    helpers.wait_until(lambda: not queue.abandoned)
    helpers.wait_until(lambda: ask(client, "still fine").status_code == 200)


def test_a_model_that_is_broken_for_good_asks_for_a_new_process(make, encoder):
    client = make(max_restarts=2)
    with structlog.testing.capture_logs():
        encoder.broken = True
        while client.app.state.service.encoder_queue.state != "failed":
            assert ask(client, "a").status_code in (500, 503)
        assert ready(client) == 503
        assert client.get("/health/live").json() == {"status": "unavailable", "reason": "worker_failed"}
        assert code(ask(client, "b")) == (503, "worker_lost")


def test_a_broken_model_that_recovers_is_used_again(make, encoder, helpers):
    client = make(max_restarts=1000)
    queue = client.app.state.service.encoder_queue
    with structlog.testing.capture_logs():
        encoder.broken = True
        for _ in range(3):
            ask(client, "a")
        helpers.wait_until(lambda: queue.state == "restarting")
        encoder.broken = False
        assert ask(client, "a").status_code == 200
    assert ready(client) == 200


def test_a_deadline_is_kept_though_the_model_is_busy(make, encoder):
    client = make()
    with structlog.testing.capture_logs():
        late = ask(client, "hang", **{"x-request-timeout": "0.1"})
        assert code(late) == (504, "deadline_exceeded")
        encoder.release.set()
        assert ask(client, "fine").status_code == 200
    for wrong in ("soon", "0", "-1", "nan"):
        assert code(ask(client, "x", **{"x-request-timeout": wrong})) == (400, "bad_request")


def test_indexing_takes_as_long_as_it_makes_progress(retriever, monkeypatch):
    monkeypatch.setattr("mmseek.api.server.batching.facades._PIECE", 4)  # so that progress is made every now and then
    monkeypatch.setattr(retriever.encoder, "delay", 0.05)
    documents = [{"id": str(number), "text": str(number)} for number in range(50)]
    with TestClient(create_app(retriever)) as client:
        answer = client.post("/v1/documents", json={"documents": documents}, headers={"x-request-timeout": "2"})
    assert answer.json()["indexed"] == 50  # in 2.5 s at least


def test_a_client_that_hangs_up_frees_its_place(serve_models, encoder, helpers):
    import http.client
    from urllib.parse import urlsplit

    address = urlsplit(serve_models(encoder=encoder, batching=BatcherOptions(batch_cost=1)))
    queue = serve_models.app.state.service.encoder_queue

    def begin(text):
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=120)
        body = f'{{"input": "{text}"}}'
        connection.request("POST", "/v1/embeddings", body, {"content-type": "application/json"})
        return connection

    with structlog.testing.capture_logs():
        first = begin("hang")
        helpers.wait_until(lambda: encoder.batches == [1])
        gone = begin("gone")
        helpers.wait_until(lambda: len(queue._unanswered) == 2)
        gone.close()
        helpers.wait_until(lambda: len(queue._unanswered) == 1)
        encoder.release.set()
        assert first.getresponse().status == 200
        first.close()
    assert encoder.batches == [1]


def test_idle_connections_do_no_harm(serve_models, encoder):
    import socket
    from urllib.parse import urlsplit

    import httpx

    url = serve_models(encoder=encoder)
    address = urlsplit(url)
    idle = [socket.create_connection((address.hostname, address.port)) for _ in range(300)]
    try:
        for half in idle[:100]:
            half.sendall(b"POST /v1/embeddings HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        with structlog.testing.capture_logs():
            assert httpx.post(f"{url}/v1/embeddings", json={"input": "x"}, timeout=120).status_code == 200
    finally:
        for connection in idle:
            connection.close()


def test_indexing_says_each_items_own_reason(make_client, retriever, helpers, monkeypatch):
    client = make_client()
    documents = [
        {"id": "a", "image": helpers.data_uri(helpers.picture("red", kind="JPEG", size=(64, 64))[:-200])},
        {"id": "b", "image": helpers.data_uri(helpers.header_bomb())},
        {"id": "c", "image": "http://example.org/x.png"},
        {"id": "d"},
        {"id": "e", "text": "fine"},
    ]
    answer = client.post("/v1/documents", json={"documents": documents}).json()
    assert answer["indexed"] == 1
    assert {each["id"]: each["code"] for each in answer["failed"]} == {
        "a": "bad_media",
        "b": "media_too_large",
        "c": "url_refused",
        "d": "bad_item",
    }


def test_an_error_of_the_model_is_the_items_own(make_client, retriever, monkeypatch):
    def stream(requests):
        return (Encoded(error=EncodeError("no vector")) for _ in requests)

    monkeypatch.setattr(retriever.encoder, "stream", stream)
    answer = make_client().post("/v1/documents", json={"documents": [{"id": "a", "text": "x"}]}).json()
    assert answer["failed"][0]["code"] == "not_encodable"
