"""Several services over one Qdrant: what one stores the others find, and one may go while the others serve.

The server is an imitation that speaks Qdrant's protocol; `MMSEEK_TEST_QDRANT_URL` names a real one.
"""

import importlib.util
import sys
import threading
from pathlib import Path

import pytest
import structlog
from fastapi.testclient import TestClient

from mmseek.api.server import create_app
from mmseek.index import open_collection
from mmseek.pipeline import Retriever
from mmseek.testing import FakeEncoder

pytest.importorskip("qdrant_client", reason="needs pip install 'mmseek[qdrant]'")


@pytest.fixture
def qdrant():
    path = Path(__file__).parents[2] / "index" / "fake_qdrant.py"
    spec = importlib.util.spec_from_file_location("fake_qdrant_of_replicas", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["fake_qdrant_of_replicas"] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    with module.FakeQdrant() as server:
        server.Fault = module.Fault
        yield server


@pytest.fixture
def replica(qdrant):
    """Starts services over the same collection."""
    opened = []

    def start():
        encoder = FakeEncoder()
        collection = open_collection(qdrant.location(query="?timeout=60"), mode="write", encoder=encoder.identity)
        retriever = Retriever(encoder, collection)
        client = TestClient(create_app(retriever))
        client.__enter__()
        opened.append((client, retriever))
        client.stop = lambda: stop(client, retriever)
        return client

    def stop(client, retriever):
        opened.remove((client, retriever))
        client.__exit__(None, None, None)
        retriever.close()

    yield start
    for client, retriever in list(opened):
        stop(client, retriever)


def add(client, *ids):
    answer = client.post("/v1/documents", json={"documents": [{"id": each, "text": f"text {each}"} for each in ids]})
    return answer.json()["indexed"]


def found(client):
    return {hit["id"] for hit in client.post("/v1/search", json={"text": "text", "k": 100}).json()["hits"]}


def test_what_one_replica_stores_and_removes_the_other_sees(replica):
    one, other = replica(), replica()
    assert add(one, "a", "b") == 2
    assert add(other, "c") == 1
    assert found(one) == found(other) == {"a", "b", "c"}
    assert other.delete("/v1/documents/a").json() == {"deleted": 1}
    assert found(one) == {"b", "c"}
    assert one.get("/v1/documents/a").status_code == 404


def test_replicas_that_write_at_once_lose_nothing(replica):
    replicas = [replica(), replica()]
    threads = [
        threading.Thread(target=add, args=(client, *(f"{place}-{n}-{each}" for each in range(5))))
        for place, client in enumerate(replicas)
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {f"{place}-{n}-{each}" for place in range(2) for n in range(4) for each in range(5)}
    assert found(replicas[0]) == found(replicas[1]) == expected


def test_a_rolling_restart(replica):
    one, other = replica(), replica()
    assert add(one, "before") == 1
    one.stop()
    assert add(other, "meanwhile") == 1
    again = replica()
    assert again.get("/health/ready").status_code == 200
    other.stop()
    assert found(again) == {"before", "meanwhile"}


def test_without_qdrant_a_replica_is_alive_but_not_ready(replica, qdrant):
    client = replica()
    assert add(client, "a") == 1
    with structlog.testing.capture_logs():
        qdrant.faults += [qdrant.Fault("status", status=403, on=".*") for _ in range(20)]
        assert client.get("/health/ready").status_code == 503
        assert client.get("/health/live").status_code == 200
        qdrant.faults.clear()
    assert client.get("/health/ready").status_code == 200
    assert found(client) == {"a"}
