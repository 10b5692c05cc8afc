"""Keys of requests that are sent again."""

import asyncio
import threading

import httpx
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseek.api.server import ServerLimits, create_app
from mmseek.api.server.hosting import CollectionRoot
from mmseek.api.server.idempotency import AnswerStore, Kept
from mmseek.api.server.security import KeyRing, new_key


@pytest.fixture
def start(tmp_path, retriever):
    opened = []

    def start(**options):
        client = TestClient(create_app(retriever, data=tmp_path / "data", **options))
        client.__enter__()
        opened.append(client)
        return client

    yield start
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def client(start):
    return start()


def code(answer):
    return answer.status_code, answer.json()["error"]["code"]


def add(client, key, *texts, **more):
    body = {"documents": [{"id": text, "text": text} for text in texts]}
    headers = {"idempotency-key": key} | more.pop("headers", {})
    return client.post("/v1/documents", json=body, headers=headers, **more)


def test_a_request_that_is_sent_again_is_answered_as_before(client):
    first = add(client, "k1", "a", "b")
    assert first.json()["indexed"] == 2
    assert "idempotency-replayed" not in first.headers
    client.delete("/v1/documents/a")
    again = add(client, "k1", "a", "b")
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers["content-type"] == first.headers["content-type"]
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["x-content-type-options"] == "nosniff"
    assert client.get("/v1/documents/a").status_code == 404  # it was not done again
    assert add(client, "k2", "a", "b").json() == {"indexed": 1, "unchanged": 1, "failed": []}


def test_a_key_with_another_request_is_refused(client):
    add(client, "k", "a")
    assert code(add(client, "k", "b")) == (422, "idempotency_mismatch")
    assert code(add(client, "k", "a", params={"x": 1})) == (422, "idempotency_mismatch")
    delete = client.request("DELETE", "/v1/documents", json={"ids": ["a"]}, headers={"idempotency-key": "k"})
    assert code(delete) == (422, "idempotency_mismatch")
    assert client.get("/v1/documents/b").status_code == 404
    assert client.get("/v1/documents/a").status_code == 200


def test_errors_are_not_kept(client, retriever):
    delete = {"headers": {"idempotency-key": "k"}}
    assert client.delete("/v1/documents/a", **delete).status_code == 404
    add(client, "other", "a")
    assert client.delete("/v1/documents/a", **delete).json() == {"deleted": 1}
    assert client.delete("/v1/documents/a", **delete).json() == {"deleted": 1}


def test_what_only_asks_takes_no_part(client):
    add(client, "x", "a")
    headers = {"idempotency-key": "k"}
    for text in ("a", "b"):
        answer = client.post("/v1/search", json={"text": text}, headers=headers)
        assert answer.status_code == 200
        assert "idempotency-replayed" not in answer.headers
    assert client.post("/v1/embeddings", json={"model": "fake", "input": "x"}, headers=headers).status_code == 200


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "\xe9"])
def test_what_is_no_key_is_refused(client, key):
    headers = [(b"idempotency-key", key.encode("latin1")), (b"content-type", b"application/json")]
    assert code(client.post("/v1/documents", content=b"{}", headers=headers)) == (400, "bad_idempotency_key")


def test_the_same_key_of_another_holder_is_another(start):
    made = [new_key(name, scope="write") for name in ("one", "two")]
    client = start(keys=KeyRing(key for _, key in made))
    for (secret, _), text in zip(made, ("a", "b"), strict=True):
        answer = add(client, "k", text, headers={"authorization": f"Bearer {secret}"})
        assert answer.json()["indexed"] == 1
    assert add(client, "k", "a").status_code == 401


def test_answers_survive_a_restart(start):
    client = start()
    add(client, "k", "a")
    client.app.state.service.close()
    after = start()
    again = add(after, "k", "a")
    assert again.json() == {"indexed": 1, "unchanged": 0, "failed": []}
    assert again.headers["idempotency-replayed"] == "true"


def test_jobs_and_collections_are_made_once(tmp_path, encoder):
    headers = {"idempotency-key": "c"}
    with TestClient(create_app(root=CollectionRoot(tmp_path / "root", [encoder]))) as client:
        first = client.post("/v1/collections", json={"name": "a"}, headers=headers)
        again = client.post("/v1/collections", json={"name": "a"}, headers=headers)
        assert (again.status_code, again.json()) == (201, first.json())
        big = b'{"id": "x", "text": "x"}\n' * 60_000  # more than is kept in memory
        headers = {"idempotency-key": "j", "content-type": "application/x-ndjson"}
        jobs = {client.post("/v1/collections/a/jobs", content=big, headers=headers).json()["id"] for _ in range(2)}
        assert len(jobs) == 1
        listed = client.get("/v1/collections/a/jobs").json()["jobs"]
        assert [(each["id"], each["bytes"]) for each in listed] == [(*jobs, len(big))]
        client.post(f"/v1/collections/a/jobs/{listed[0]['id']}/cancel")


def test_a_body_over_the_limit_is_refused_with_a_key_too(start):
    client = start(limits=ServerLimits(max_body_bytes=1000))

    def pieces():
        for _ in range(20):
            yield b"x" * 100

    headers = {"idempotency-key": "k", "content-type": "application/json"}
    assert code(client.post("/v1/documents", content=pieces(), headers=headers)) == (413, "body_too_large")
    assert code(client.post("/v1/documents", content=b"x" * 2000, headers=headers)) == (413, "body_too_large")


def test_a_body_that_stands_still_is_told_as_such_with_a_key_too(start):
    client = start(limits=ServerLimits(body_seconds=1))

    async def stuck():
        yield b"{"
        await asyncio.sleep(60)

    async def ask():
        transport = httpx.ASGITransport(client.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as held:
            headers = {"idempotency-key": "k", "content-type": "application/json"}
            return await held.post("/v1/documents", content=stuck(), headers=headers)

    assert code(asyncio.run(ask())) == (408, "body_too_slow")


def test_a_second_request_waits_for_nothing_while_the_first_is_at_work(serve_models, retriever, encoder, helpers):
    reached, permit = threading.Event(), threading.Event()
    plain = encoder._vector

    def vector(content):
        if content.text == "slow":
            reached.set()
            permit.wait(120)
        return plain(content)

    encoder._vector = vector
    url = serve_models(retriever)
    with httpx.Client(base_url=url) as one, httpx.Client(base_url=url) as two:
        answers = []
        thread = threading.Thread(target=lambda: answers.append(add(one, "k", "slow")))
        thread.start()
        assert reached.wait(120)
        busy = add(two, "k", "slow")
        assert code(busy) == (409, "idempotency_in_progress")
        assert busy.headers["retry-after"] == "1"
        permit.set()
        thread.join(120)
        assert add(two, "k", "slow").content == answers[0].content


def kept(text):
    return Kept(text.encode(), 200, b"application/json", text.encode())


def test_answers_are_bounded_in_number_bytes_and_time(tmp_path, monkeypatch):
    store = AnswerStore(tmp_path / "a.sqlite", most=3, most_bytes=100, seconds=60)
    for number in range(5):
        store.put("", str(number), kept(str(number)))
    assert [store.get("", str(number)) is not None for number in range(5)] == [False, False, True, True, True]
    store.put("", "big", kept("x" * 99))
    assert store.get("", "big") == kept("x" * 99)
    assert len(store) == 2
    store.put("", "too big", kept("x" * 101))
    assert len(store) == 0
    store.put("", "old", kept("old"))
    now = __import__("time").time()
    monkeypatch.setattr("mmseek.api.server.idempotency.time.time", lambda: now + 61)
    assert store.get("", "old") is None
    store.put("", "new", kept("new"))
    assert len(store) == 1
    store.close()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.text(max_size=3)), max_size=12))
@settings(max_examples=30)
def test_the_store_is_a_dictionary(steps):
    store, plain = AnswerStore(None), {}
    for holder, key, text in steps:
        store.put(holder, key, kept(text))
        plain[holder, key] = kept(text)
    for holder in "abc":
        for key in "xyz":
            assert store.get(holder, key) == plain.get((holder, key))
    store.close()
