"""Requests drawn from the service's own description, and forms drawn at random: no answer is a fault of the server."""

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmseek.api.server import Answering, create_app
from mmseek.api.server.hosting import CollectionRoot
from mmseek.index import open_collection
from mmseek.pipeline import Retriever
from mmseek.pipeline.chat import Chat
from mmseek.testing import FakeEncoder, FakeReranker

schemathesis = pytest.importorskip("schemathesis", reason="a development tool")

_BOUNDED = settings(max_examples=8, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture
def retriever(tmp_path):
    encoder = FakeEncoder()
    collection = open_collection(tmp_path / "c", mode="write", encoder=encoder.identity)
    with Retriever(encoder, collection, FakeReranker(lambda _: 1.0)) as opened:
        yield opened


@pytest.fixture
def many(tmp_path):
    """A folder of collections with one of them, and a place for jobs."""
    encoder = FakeEncoder()
    open_collection(tmp_path / "root" / "collection", mode="create", encoder=encoder.identity).close()
    (tmp_path / "root" / "default").write_text('{"format": "mmseek-alias", "target": "collection"}')
    return CollectionRoot(tmp_path / "root", [encoder])


def test_no_described_request_is_a_fault_of_the_server(serve_models, retriever, fake_chat, tmp_path):
    answering = Answering(Chat(fake_chat.url, "m"))
    url = serve_models(retriever, data=tmp_path / "data", answering=answering)
    described = schemathesis.openapi.from_url(f"{url}/openapi.json")
    assert len(tried_all(described)) > 30


def test_no_described_request_about_many_collections_is_one(serve_models, many, fake_chat):
    answering = Answering(Chat(fake_chat.url, "m"))
    described = schemathesis.openapi.from_url(f"{serve_models(root=many, answering=answering)}/openapi.json")
    # Those without a name are tried above, on the same code.
    tried = tried_all(described.include(path_regex="^/v1/(collections|aliases)"))
    assert len(tried) > 20


def tried_all(described):
    tried = set()
    for found in described.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy())
        @_BOUNDED
        def ask(case):
            answer = case.call()
            assert answer.status_code < 500, (case.as_curl_command(), answer.text)
            if answer.status_code >= 400:
                assert set(answer.json()["error"]) == {"code", "message"}

        ask()
        tried.add(operation.label)
    return tried


_PIECES = st.sampled_from(
    [
        b"--frontier",
        b"--frontier--",
        b"\r\n",
        b"\r\n\r\n",
        b'Content-Disposition: form-data; name="image"; filename="a.png"',
        b'Content-Disposition: form-data; name="text"',
        b'Content-Disposition: form-data; name="k"',
        b"Content-Type: image/png",
        b"10",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
        b"\0",
    ]
)


@pytest.fixture
def client(retriever):
    with TestClient(create_app(retriever)) as opened:
        yield opened


@given(st.lists(_PIECES | st.binary(max_size=20), max_size=30))
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_no_form_is_a_fault_of_the_server(client, pieces):
    headers = {"content-type": "multipart/form-data; boundary=frontier"}
    answer = client.post("/v1/search/upload", content=b"".join(pieces), headers=headers)
    assert answer.status_code < 500, answer.text
    assert client.get("/health/ready").status_code == 200
