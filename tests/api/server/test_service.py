import threading

import pytest
import structlog
from fastapi.testclient import TestClient

from mmseek import errors


def test_health(client):
    for address in ("/health", "/health/live", "/health/ready"):
        answer = client.get(address)
        assert (answer.status_code, answer.json()["status"]) == (200, "ok")


def test_is_not_ready_once_the_collection_cannot_be_read(client, retriever):
    retriever.close()
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.json()["status"]) == (503, "unavailable")
    assert client.get("/health/live").status_code == 200


def test_collection_says_what_it_is(client, encoder):
    client.post("/v1/documents", json={"documents": [{"id": "a", "text": "x"}]})
    told = client.get("/v1/collection").json()
    assert told["documents"] == 1
    assert told["modalities"] == {"text": 1}
    assert told["encoder"] == {
        "spec": encoder.identity.spec,
        "fingerprint": encoder.identity.fingerprint,
        "dim": encoder.identity.dim,
    }
    assert told["bytes"] > 0
    assert "location" not in told


@pytest.mark.parametrize(
    ("method", "address", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/docs", 404, "not_found"),
        ("GET", "/v1/search", 405, "method_not_allowed"),
        ("POST", "/health", 405, "method_not_allowed"),
    ],
)
def test_unknown_addresses_answer_in_the_one_shape(client, method, address, status, code):
    answer = client.request(method, address)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize("body", [b"", b"{", b"[1, 2]", b"null", b"\xff\xfe", b'{"a":' * 100_000])
def test_a_body_that_is_no_json_object_is_refused(client, body):
    answer = client.post("/v1/search", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]["code"] in ("bad_json", "bad_request")
    assert client.post("/v1/search", json={"text": "still there"}).status_code == 200


def test_a_form_from_another_page_is_refused(client):
    body = b'{"documents": [{"id": "a", "text": "planted"}]}'
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        assert client.post("/v1/documents", content=body, headers={"content-type": kind}).status_code == 422
    assert client.get("/v1/collection").json()["documents"] == 0


def test_a_body_over_the_limit_is_refused_while_it_streams(make_client):
    client = make_client(max_body_bytes=10_000)
    sent = 0

    def endless():
        nonlocal sent
        yield b'{"text": "'
        while sent < 200_000:
            sent += 1000
            yield b"x" * 1000

    headers = {"content-type": "application/json"}
    declared = client.post("/v1/search", content=b"x" * 10_001, headers=headers)
    streamed = client.post("/v1/search", content=endless(), headers=headers)
    upload = client.post("/v1/search/upload", files={"image": ("a.png", b"x" * 20_000)})
    unread = client.request("GET", "/health", content=b"x" * 10_001)
    for answer in (declared, streamed, upload, unread):
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large")
    assert client.post("/v1/search", json={"text": "small"}).status_code == 200


def test_bad_pictures_never_end_the_service(client, helpers):
    whole = helpers.picture("red", kind="JPEG", size=(64, 64))
    cases = {
        helpers.data_uri(whole[:-200], "image/jpeg"): (422, "bad_media"),
        helpers.data_uri(helpers.header_bomb()): (413, "media_too_large"),
        helpers.data_uri(b"\x89PNG\r\n\x1a\n"): (422, "bad_media"),
    }
    for image, expected in cases.items():
        answer = client.post("/v1/search", json={"image": image})
        assert (answer.status_code, answer.json()["error"]["code"]) == expected
    upload = client.post("/v1/search/upload", files={"image": ("a.png", b"")})
    assert (upload.status_code, upload.json()["error"]["code"]) == (422, "bad_media")
    assert client.post("/v1/search", json={"text": "still there"}).status_code == 200
    assert client.get("/health/ready").status_code == 200


def test_a_bug_is_answered_without_its_inside(client, retriever, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("secret at 0x7f00")

    monkeypatch.setattr(retriever.encoder, "stream", broken)
    with structlog.testing.capture_logs() as logs:
        answer = client.post("/v1/search", json={"text": "a"})
    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert "secret" not in answer.text
    request_id = answer.headers["x-request-id"]
    assert request_id in answer.json()["error"]["message"]
    broke = [entry for entry in logs if entry["event"] == "request_broke"]
    assert [entry["request_id"] for entry in broke] == [request_id]
    assert isinstance(broke[0]["exc_info"], RuntimeError)
    monkeypatch.undo()
    assert client.post("/v1/search", json={"text": "a"}).status_code == 200


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.StorageError("/srv/private is full"), 507),
        (errors.CorruptCollection("/srv/private is damaged"), 500),
        (errors.ModelError("/srv/private/model.safetensors"), 500),
        (errors.MissingExtra("the secret family at /srv/private", "clip"), 501),
        (errors.CollectionLocked("/srv/private is locked"), 503),
    ],
)
def test_faults_of_the_server_keep_its_paths_to_themselves(client, retriever, monkeypatch, error, status):
    def failing(*_, **__):
        raise error

    monkeypatch.setattr(retriever.encoder, "stream", failing)
    with structlog.testing.capture_logs() as logs:
        answer = client.post("/v1/search", json={"text": "a"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, error.code)
    assert "private" not in answer.text
    assert any(entry.get("exc_info") is error for entry in logs)


def test_every_error_class_has_a_status():
    from mmseek.api.server.errors import STATUS, status_of

    def below(kind):
        yield kind
        for child in kind.__subclasses__():
            yield from below(child)

    for kind in below(errors.MmseekError):
        error = kind.__new__(kind)
        assert 400 <= status_of(error) < 600
        if issubclass(kind, errors.InputError):
            assert status_of(error) < 500
    assert set(STATUS) <= set(below(errors.MmseekError))


def test_requests_are_logged(client):
    with structlog.testing.capture_logs() as logs:
        answer = client.get("/health")
    (line,) = logs
    assert (line["event"], line["path"], line["status"]) == ("request", "/health", 200)
    assert line["request_id"] == answer.headers["x-request-id"]


class Gate:
    """Holds the encoder until it is opened, and counts how many are inside at a time."""

    def __init__(self, encode):
        self.encode = encode
        self.open = threading.Event()
        self.inside = self.most = 0
        self.lock = threading.Lock()

    def __call__(self, *args):
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        assert self.open.wait(120)
        with self.lock:
            self.inside -= 1
        return self.encode(*args)


@pytest.fixture
def gate(encoder, monkeypatch):
    gate = Gate(encoder.stream)
    monkeypatch.setattr(encoder, "stream", gate)
    yield gate
    gate.open.set()


def ask_beside(client, count):
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(client.post("/v1/search", json={"text": "slow"})))
        for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    return threads, answers


def test_a_slow_encoder_does_not_stop_the_rest(client, gate, helpers):
    gate.open.set()
    client.post("/v1/documents", json={"documents": [{"id": "a", "text": "x"}]})
    gate.open.clear()
    threads, answers = ask_beside(client, 3)
    helpers.wait_until(lambda: gate.inside == 1)
    assert client.get("/health/ready").status_code == 200
    assert client.get("/v1/documents/a").status_code == 200
    assert client.get("/v1/collection").status_code == 200
    assert not answers
    gate.open.set()
    for thread in threads:
        thread.join(120)
    assert [answer.status_code for answer in answers] == [200] * 3
    assert gate.most == 1


def test_more_than_may_wait_are_told_to_come_again(make_client, gate, helpers):
    client = make_client(max_waiting=2)
    threads, answers = ask_beside(client, 2)
    lane = client.app.state.service.encoding
    helpers.wait_until(lambda: lane._inside == 2)
    answer = client.post("/v1/search", json={"text": "one more"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "busy")
    assert answer.headers["retry-after"] == "1"
    gate.open.set()
    for thread in threads:
        thread.join(120)
    assert [found.status_code for found in answers] == [200, 200]
    assert client.post("/v1/search", json={"text": "now"}).status_code == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8000", 200),
        ("127.0.0.1:8000", 200),
        ("[::1]:8000", 200),
        ("evil.example", 421),
        ("localhost.evil.example:8000", 421),
        ("[::2]:8000", 421),
        ("", 421),
    ],
)
def test_answers_only_under_its_own_names(retriever, host, status):
    from mmseek.api.server import create_app
    from mmseek.api.server.host_check import LOCAL_HOSTS

    client = TestClient(create_app(retriever, hosts=LOCAL_HOSTS))
    answer = client.get("/v1/collection", headers={"host": host})
    assert answer.status_code == status
    if status != 200:
        assert answer.json()["error"]["code"] == "misdirected_request"
        assert answer.headers["x-request-id"]


def test_works_without_a_lifespan(retriever):
    from mmseek.api.server import create_app

    client = TestClient(create_app(retriever))
    assert client.post("/v1/search", json={"text": "a"}).status_code == 200


@pytest.mark.parametrize("name", ["max_body_bytes", "max_k", "max_documents", "max_ids", "max_waiting", "max_inputs"])
def test_limits_are_at_least_one(name):
    from mmseek.api.server import ServerLimits

    with pytest.raises(errors.ConfigError, match=name):
        ServerLimits(**{name: 0})


def test_loads_no_torch_by_itself():
    import subprocess
    import sys

    code = "import sys, mmseek.api.pages; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
