"""A server that is slow, busy, failing, or gone in the middle: requests are repeated, nothing is lost or doubled."""

from __future__ import annotations

import socket
from dataclasses import replace

import numpy as np
import pytest

from mmseek.errors import CollectionError, ConfigError, MmseekError, NotACollection, StorageError
from mmseek.index import open_collection
from mmseek.index.qdrant import client, retry
from mmseek.index.qdrant.retry import RetryPolicy

UPSERT = r"PUT .*/points$"


@pytest.fixture
def waits(monkeypatch):
    """The waits between attempts, in seconds; nobody waits."""
    waited = []
    policy = replace(retry.DEFAULT_POLICY, sleep=waited.append)
    monkeypatch.setattr(client.ClientStore.__init__, "__defaults__", (policy,))
    return waited


@pytest.fixture
def fault(fake_qdrant):
    """Tell the server to fail."""
    import fake_qdrant as program

    def tell(kind, times=1, **how):
        fake_qdrant.faults += [program.Fault(kind, **how) for _ in range(times)]

    return tell


@pytest.fixture
def writer(fake_qdrant, identity, waits):
    opened = open_collection(fake_qdrant.location(query="?timeout=120"), mode="write", encoder=identity)
    fake_qdrant.log.clear()
    yield opened
    opened.close()


def check(collection, expected, vectors):
    """Exactly these documents, each once, with their vectors."""
    assert list(collection.documents()) == expected
    report = collection.verify()
    assert (report.problems, report.documents, report.vectors) == ((), len(expected), len(expected))
    assert len(collection.search(vectors(1)[0], 10_000)) == len(expected)


@pytest.mark.parametrize("after", [False, True], ids=["before it was done", "after it was done"])
@pytest.mark.parametrize("operation", [UPSERT, r"POST .*/points/(query|count|scroll)$", r"POST .*/points$"])
@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("status", {"status": 429, "headers": {"Retry-After": "7"}}),
        ("status", {"status": 500}),
        ("drop", {}),
    ],
)
def test_one_failure_is_not_seen(writer, fault, waits, documents, vectors, kind, how, operation, after):
    writer.upsert(documents(range(3)), vectors(3))
    fault(kind, times=2, on=operation, after=after, **how)
    writer.upsert(documents(range(2, 8)), vectors(6))
    assert len(writer.search(vectors(1)[0], 20)) == 8
    check(writer, documents([0, 1, *range(2, 8)]), vectors)
    assert len(waits) == 2
    told = how.get("headers", {}).get("Retry-After")
    assert waits == [float(told)] * 2 if told else 0.1 < waits[0] < waits[1] < 0.6


def test_a_server_that_says_nothing_is_asked_again(fake_qdrant, identity, fault, waits, documents, vectors):
    fault("hang", seconds=1.5, on=UPSERT, after=True)
    with open_collection(fake_qdrant.location(query="?timeout=1"), mode="write", encoder=identity) as writer:
        writer.upsert(documents(range(4)), vectors(4))
        assert waits
        check(writer, documents(range(4)), vectors)


@pytest.mark.parametrize(
    ("kind", "how", "sentence"),
    [
        ("status", {"status": 429, "headers": {"Retry-After": "1"}}, "is too busy"),
        ("status", {"status": 429}, "is too busy"),
        ("status", {"status": 500}, "fails .HTTP 500"),
        ("drop", {}, "cannot be reached"),
    ],
)
def test_a_failure_that_stays_is_one_sentence(
    writer, fake_qdrant, fault, waits, documents, vectors, kind, how, sentence
):
    writer.upsert(documents(range(5)), vectors(5))
    fault(kind, times=6, on=UPSERT, **how)
    with pytest.raises(StorageError, match=sentence) as caught:
        writer.upsert(documents(range(3, 9)), vectors(6))
    assert "\n" not in str(caught.value)
    assert fake_qdrant.address in str(caught.value)
    assert len(waits) == 5
    check(writer, documents(range(5)), vectors)  # what was acknowledged, and nothing else
    writer.upsert(documents(range(3, 9)), vectors(6))
    check(writer, documents([0, 1, 2, *range(3, 9)]), vectors)


def test_a_connection_that_breaks_between_two_requests_of_a_batch(writer, fake_qdrant, fault, documents, vectors):
    """A large call is several requests: after an error it may be there in part, and the same call completes it."""
    many = documents(range(600))
    values = np.tile(vectors(100), (6, 1))
    writer.upsert(many[:10], values[:10])
    fake_qdrant.log.clear()
    writer.upsert(many, values)
    assert sum("/points?" in line for line in fake_qdrant.log) == 3
    assert all("wait=true" in line for line in fake_qdrant.log if "/points?" in line)
    check(writer, many, vectors)
    writer.delete([document.id for document in many])
    broken = [True]
    usual = fake_qdrant.take_fault

    def second_request(request):
        import fake_qdrant as program

        puts = sum("/points?" in line for line in fake_qdrant.log)
        return program.Fault("drop") if broken[0] and request.endswith("/points") and puts >= 2 else usual(request)

    fake_qdrant.log.clear()
    fake_qdrant.take_fault = second_request
    with pytest.raises(StorageError, match="cannot be reached"):
        writer.upsert(many, values)
    broken[0] = False
    assert 0 < writer.info().documents < 600
    assert writer.verify().ok
    writer.upsert(many, values)
    check(writer, many, vectors)


def test_a_refusal_is_not_repeated(fake_qdrant, writer, fault, waits, documents, vectors):
    fault("status", status=400, on=UPSERT)
    with pytest.raises(CollectionError, match=r"refuses the request .HTTP 400: told to fail"):
        writer.upsert(documents([1]), vectors(1))
    fault("status", status=413, on=UPSERT)
    with pytest.raises(StorageError, match="--batch-size"):
        writer.upsert(documents([1]), vectors(1))
    assert waits == []


def test_nobody_there(identity, waits):
    with socket.socket() as held:  # so that nobody else comes to listen there
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        with pytest.raises(StorageError, match=f"qdrant://127.0.0.1:{port}/x cannot be reached"):
            open_collection(f"qdrant://127.0.0.1:{port}/x", mode="write", encoder=identity)
    assert len(waits) == 5


def test_making_it_is_repeated(fake_qdrant, fault, identity, waits, documents, vectors):
    for after in (False, True):
        for on in (r"GET .*/exists$", r"PUT .*/things$", r"PUT .*/index$", UPSERT):
            fault("drop", on=on, after=after)
    with open_collection(fake_qdrant.location(), mode="create", encoder=identity) as made:
        made.upsert(documents([1]), vectors(1))
        check(made, documents([1]), vectors)
    assert fake_qdrant.faults == []
    assert set(fake_qdrant.indexes["things"]) == {"row", "facts", "terms", "length"}


def test_a_writer_that_stopped_while_making_it(fake_qdrant, fault, identity, waits):
    fault("status", status=400, on=UPSERT)
    with pytest.raises(CollectionError, match="refuses"):
        open_collection(fake_qdrant.location(), mode="write", encoder=identity)
    with pytest.raises(NotACollection):
        open_collection(fake_qdrant.location())
    open_collection(fake_qdrant.location(), mode="write", encoder=identity).close()
    assert open_collection(fake_qdrant.location()).verify().ok


def test_something_else_on_the_server_is_left_alone(fake_qdrant, identity):
    from qdrant_client import models

    fake_qdrant.client.create_collection(
        "things", vectors_config=models.VectorParams(size=2, distance=models.Distance.DOT)
    )
    fake_qdrant.client.upsert("things", [models.PointStruct(id=1, vector=[1.0, 2.0], payload={"theirs": True})])
    with pytest.raises(NotACollection, match="something else"):
        open_collection(fake_qdrant.location(), mode="write", encoder=identity)
    assert fake_qdrant.client.count("things").count == 1


def test_the_key(tmp_path, monkeypatch, identity):
    import fake_qdrant as program

    file = tmp_path / "key"
    file.write_text("a very secret key\n")
    with program.FakeQdrant(key="a very secret key") as fake:
        with pytest.raises(CollectionError, match=r"refuses the key .*MMSEEK_QDRANT_API_KEY_FILE"):
            open_collection(fake.location(), mode="write", encoder=identity)
        monkeypatch.setenv("MMSEEK_QDRANT_API_KEY_FILE", str(file))
        open_collection(fake.location(), mode="write", encoder=identity).close()
        file.write_text("another key")
        with pytest.raises(CollectionError) as caught:
            open_collection(fake.location())
    told = [str(caught.value), repr(caught.value.__cause__)]
    for location, words in (
        ("qdrant://example.org/name", "not encrypted"),
        ("qdrant+https://user:word@example.org/name", "no user or password"),
    ):
        with pytest.raises(MmseekError, match=words) as caught:
            open_collection(location)
        told.append(str(caught.value))
    for content in ("", "two\nlines", "é"):
        file.write_text(content)
        with pytest.raises(ConfigError, match="holds no key"):
            open_collection("qdrant://localhost/name")
    monkeypatch.setenv("MMSEEK_QDRANT_API_KEY_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="cannot be read"):
        open_collection("qdrant://localhost/name")
    assert "another key" not in " ".join(told)


def test_waits_grow_and_are_bounded():
    policy = RetryPolicy()

    class State:
        outcome = None
        attempt_number = 1

    state = State()
    longest = 0.0
    for state.attempt_number in range(1, 40):
        wait = policy.wait(state)
        assert 0 < wait <= policy.longest
        longest = max(longest, wait)
    assert longest > policy.longest / 2


def test_a_cluster_is_asked_as_it_was_made(fake_qdrant, identity, documents, vectors):
    """Shards and copies as asked for; with copies, most of them acknowledge a write and answer a read."""
    asked = []
    usual = fake_qdrant.answer

    def answer(method, path, body):
        asked.append((method, path, body))
        found = usual(method, path, body)
        if (method, path) == ("GET", "/collections/things"):
            found["config"]["params"]["replication_factor"] = 3
        return found

    fake_qdrant.answer = answer
    place = fake_qdrant.location(
        query="?shard_number=6&replication_factor=3&quantization=int8&on_disk=true&on_disk_payload=false&hnsw_ef=200"
    )
    with open_collection(place, mode="create", encoder=identity) as made:
        made.upsert(documents(range(5)), vectors(5))
        made.search(vectors(1)[0], 3)
    (body,) = [body for method, path, body in asked if (method, path) == ("PUT", "/collections/things")]
    assert (body["shard_number"], body["replication_factor"], body["write_consistency_factor"]) == (6, 3, 2)
    assert body["vectors"]["dense"]["on_disk"] is True
    assert body["vectors"]["dense"]["distance"] == "Dot"
    assert body["vectors"]["dense"]["quantization_config"]["scalar"]["type"] == "int8"
    assert body["on_disk_payload"] is False
    (search,) = [body for method, path, body in asked if path.endswith("/query")]
    assert search["params"]["hnsw_ef"] == 200
    assert search["params"]["quantization"]["rescore"] is True
    reads = [line for line in fake_qdrant.log if "/points/query" in line or "/points/scroll" in line]
    assert reads
    assert all("consistency=quorum" in line for line in reads)
