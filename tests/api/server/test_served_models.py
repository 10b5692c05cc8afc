"""Several encoders under one server: named by requests, listed as what they are, each behind a queue of its own."""

import base64
import threading

import numpy as np
import pytest
from fastapi.testclient import TestClient

from mmseek._types import Content, Document
from mmseek.api.server import create_app
from mmseek.api.server.hosting import CollectionRoot
from mmseek.pipeline import Retriever
from mmseek.testing import FakeEncoder, FakeReranker, FakeTokenEncoder

WORDS = ["a red bike", "boat"]
USUAL = FakeEncoder(dim=16, spec="usual")
LARGE = FakeEncoder(dim=32, spec="clip:org/large@v2")
TOKENS = FakeTokenEncoder(dim=8, spec="colqwen2:org/pages")


@pytest.fixture
def client():
    reranker = FakeReranker(lambda pair: 0.0, spec="ranker")
    app = create_app(encoder=USUAL, encoders=[LARGE, TOKENS, USUAL], reranker=reranker, names=["text-embedding-3"])
    with TestClient(app) as opened:
        yield opened


def refusal(answer):
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["message"]


def rows(answer):
    assert answer.status_code == 200, answer.text
    return np.asarray([each["embedding"] for each in answer.json()["data"]], np.float32)


def expected(encoder):
    return encoder.encode_document([Content.of(word) for word in WORDS])


@pytest.mark.parametrize(
    ("model", "encoder", "told"),
    [
        (None, USUAL, "text-embedding-3"),
        ("text-embedding-3", USUAL, "text-embedding-3"),
        ("usual", USUAL, "usual"),
        ("clip:org/large@v2", LARGE, "clip:org/large@v2"),
        ("clip:org/large", LARGE, "clip:org/large"),
        ("org/large", LARGE, "org/large"),
    ],
)
def test_a_request_names_the_encoder(client, model, encoder, told):
    answer = client.post("/v1/embeddings", json={"input": WORDS, "model": model})
    np.testing.assert_allclose(rows(answer), expected(encoder), atol=1e-6)
    assert answer.json()["model"] == told


def test_so_do_the_other_protocols(client):
    wanted = expected(LARGE)
    voyage = {"inputs": [{"content": [{"type": "text", "text": word}]} for word in WORDS], "model": "org/large"}
    np.testing.assert_allclose(rows(client.post("/v1/multimodalembeddings", json=voyage)), wanted, atol=1e-6)
    cohere = client.post("/v2/embed", json={"texts": WORDS, "model": "org/large"}).json()["embeddings"]["float"]
    np.testing.assert_allclose(np.float32(cohere), wanted, atol=1e-6)
    tei = client.post("/embed", json={"inputs": WORDS}).json()  # which has no word for a model
    np.testing.assert_allclose(np.float32(tei), expected(USUAL), atol=1e-6)


def test_what_there_is_is_listed_as_what_it_is(client):
    found = {each["id"]: each for each in client.get("/v1/models").json()["data"]}
    assert {name: each["task"] for name, each in found.items()} == {
        "text-embedding-3": "embedding",
        "usual": "embedding",
        "clip:org/large@v2": "embedding",
        "clip:org/large": "embedding",
        "org/large@v2": "embedding",
        "org/large": "embedding",
        "colqwen2:org/pages": "multi-vector-embedding",
        "org/pages": "multi-vector-embedding",
        "ranker": "rerank",
    }
    assert {name: found[name]["dimensions"] for name in ("usual", "org/large", "org/pages")} == {
        "usual": 16,
        "org/large": 32,
        "org/pages": 8,
    }
    assert client.get("/v1/models/clip:org/large@v2").json() == found["clip:org/large@v2"]


def test_an_unknown_name_is_told_what_there_is(client):
    there = "text-embedding-3, clip:org/large@v2 or colqwen2:org/pages (a vector for each token)"
    for path, body in (
        ("/v1/embeddings", {"input": "x"}),
        ("/v2/embed", {"texts": ["x"]}),
        ("/v1/multimodalembeddings", {"inputs": [{"content": [{"type": "text", "text": "x"}]}]}),
    ):
        asked = client.post(path, json=body | {"model": "ranker"})  # which reranks
        assert refusal(asked) == (404, "unknown_model", f"there is no encoder 'ranker' here: use {there}")
    status, code, message = refusal(client.get("/v1/models/none"))
    assert (status, code) == (404, "unknown_model")
    assert "org/pages (a vector for each token) or ranker" in message
    wrong = client.post("/v1/rerank", json={"query": "q", "documents": ["d"], "model": "usual"})
    assert refusal(wrong) == (404, "unknown_model", "there is no reranker 'usual' here: use ranker")


def test_a_vector_for_each_token_where_it_is_asked_for(client):
    status, code, message = refusal(client.post("/v1/embeddings", json={"input": "x", "model": "org/pages"}))
    assert (status, code) == (400, "bad_input")
    assert "a vector for each token" in message
    assert "return_multivector: true" in message
    assert message.endswith("or use text-embedding-3 or clip:org/large@v2")
    body = {"input": WORDS, "return_multivector": True}
    answer = client.post("/v1/embeddings", json=body).json()
    assert answer["model"] == "colqwen2:org/pages"  # the only one that gives them
    wanted = TOKENS.encode_document_tokens([Content.of(word) for word in WORDS])
    assert [len(each["embeddings"]) for each in answer["data"]] == [3, 1]
    for each, vectors in zip(answer["data"], wanted, strict=True):
        np.testing.assert_allclose(np.float32(each["embeddings"]), vectors, atol=1e-6)
    packed = client.post("/v1/embeddings", json=body | {"encoding_format": "base64", "model": "org/pages"}).json()
    first = [np.frombuffer(base64.b64decode(each), "<f4") for each in packed["data"][0]["embeddings"]]
    np.testing.assert_array_equal(first, wanted[0])
    assert refusal(client.post("/v1/embeddings", json=body | {"model": "usual"}))[1] == "bad_input"
    assert refusal(client.post("/v2/embed", json={"texts": ["x"], "model": "org/pages"}))[1] == "bad_input"
    with TestClient(create_app(encoder=USUAL)) as plain:
        status, code, message = refusal(plain.post("/v1/embeddings", json=body))
    assert (status, code) == (400, "bad_input")
    assert message == "this server has no encoder that gives a vector for each token: it runs usual"


def test_a_server_without_the_kind_that_is_wanted_says_what_it_has():
    with TestClient(create_app(encoder=TOKENS)) as client:
        assert client.post("/v1/embeddings", json={"input": "x", "return_multivector": True}).status_code == 200
        for path, body in (("/v1/embeddings", {"input": "x"}), ("/embed", {"inputs": "x"})):
            status, code, message = refusal(client.post(path, json=body))
            assert (status, code) == (501, "not_offered")
            assert message.endswith("it runs colqwen2:org/pages (a vector for each token)")


def test_a_spec_is_no_other_encoders_short_name():
    short = FakeEncoder(dim=4, spec="st:mini")
    exact = FakeEncoder(dim=8, spec="mini")
    with TestClient(create_app(encoder=short, encoders=[exact])) as client:
        found = client.post("/v1/embeddings", json={"input": "x", "model": "mini"})
        assert rows(found).shape == (1, 8)
        assert [each["id"] for each in client.get("/v1/models").json()["data"]] == ["st:mini", "mini"]


def test_one_that_is_busy_holds_up_no_other(helpers):
    hold, reached = threading.Event(), threading.Event()

    class Slow(FakeEncoder):
        def _vector(self, content):
            reached.set()
            assert hold.wait(30)
            return super()._vector(content)

    with TestClient(create_app(encoder=USUAL, encoders=[Slow(spec="slow")])) as client:
        waiting = threading.Thread(target=lambda: client.post("/v1/embeddings", json={"input": "x", "model": "slow"}))
        waiting.start()
        assert reached.wait(30)
        try:
            assert client.post("/v1/embeddings", json={"input": "y"}).status_code == 200
            assert waiting.is_alive()
        finally:
            hold.set()
            waiting.join(30)


def test_collections_may_be_of_any_of_them_and_searches_share_their_queues(tmp_path):
    with TestClient(create_app(root=CollectionRoot(tmp_path / "root", [USUAL, TOKENS]))) as client:
        made = client.post("/v1/collections", json={"name": "pages", "encoder": "colqwen2:org/pages"})
        assert made.status_code == 201, made.text
        items = [{"id": word, "text": word} for word in WORDS]
        assert client.post("/v1/collections/pages/documents", json={"documents": items}).json()["indexed"] == 2
        hits = client.post("/v1/collections/pages/search", json={"text": "red bike", "k": 1}).json()["hits"]
        assert hits[0]["id"] == "a red bike"
        assert 1.9 < hits[0]["score"] < 2.1  # MaxSim of two words
        assert client.post("/v1/embeddings", json={"input": WORDS}).json()["model"] == "usual"
        assert len(client.app.state.service.queues) == 2


def test_an_encoder_beside_a_collections_own_leaves_searches_alone(tmp_path, encoder, retriever):
    retriever.add([Document("a", Content.of("a"))])
    with TestClient(create_app(retriever, encoder=LARGE)) as client:
        assert rows(client.post("/v1/embeddings", json={"input": "a"})).shape == (1, 32)
        assert rows(client.post("/v1/embeddings", json={"input": "a", "model": "fake"})).shape == (1, 16)
        (hit,) = client.post("/v1/search", json={"text": "a"}).json()["hits"]
        assert hit["score"] == pytest.approx(1, abs=1e-5)
    with (
        Retriever.open(tmp_path / "many", TOKENS, mode="create") as pages,
        TestClient(create_app(pages, encoders=[USUAL])) as client,
    ):
        assert client.post("/v1/embeddings", json={"input": "a"}).json()["model"] == "usual"
