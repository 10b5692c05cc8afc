"""Shapes that no official client sends: Jina's, TEI's, vLLM's and infinity's."""

import base64

import numpy as np
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from mmseek._types import Content, Image, Text
from mmseek.api.server import ServerLimits, create_app
from mmseek.api.server.protocols.relevance import relevance
from mmseek.testing import FakeEncoder, FakeReranker


class Recording(FakeEncoder):
    """Remembers what it was asked."""

    def __init__(self):
        super().__init__(dim=16)
        self.asked = []

    def stream(self, requests):
        requests = list(requests)
        self.asked += requests
        return super().stream(requests)


@pytest.fixture
def encoder():
    return Recording()


@pytest.fixture
def client(encoder):
    def judge(pair):
        return float(len(pair.document.text) - len(pair.query.text))

    reranker = FakeReranker(judge, spec="ranker", scale="logit")
    with TestClient(create_app(encoder=encoder, reranker=reranker, limits=ServerLimits(max_inputs=20))) as opened:
        yield opened


def rows(answer):
    assert answer.status_code == 200, answer.text
    return np.asarray([each["embedding"] for each in answer.json()["data"]], np.float32)


def test_jina_sides_pictures_and_types(client, encoder, helpers):
    picture = helpers.picture("red")
    bare = base64.b64encode(picture).decode()
    body = {"input": [{"text": "x"}, {"image": bare}, {"image": helpers.data_uri(picture)}], "task": "retrieval.query"}
    found = rows(client.post("/v1/embeddings", json=body))
    expected = encoder.encode_document([Content((Text("x"),)), Content((Image(data=picture),))])
    np.testing.assert_array_equal(found, expected[[0, 1, 1]])
    assert {request.role for request in encoder.asked} == {"query"}
    bits = client.post("/v1/embeddings", json=body | {"embedding_type": "ubinary"}).json()["data"][0]["embedding"]
    assert bits == np.packbits(expected[0] > 0).tolist()
    packed = client.post("/v1/embeddings", json=body | {"embedding_type": "base64"}).json()["data"][0]["embedding"]
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(packed), "<f4"), expected[0])


def test_vllm_chat_and_instructions(client, encoder, helpers):
    picture = helpers.picture("red")
    messages = [
        {"role": "system", "content": "Find the caption."},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": helpers.data_uri(picture)}},
                {"type": "text", "text": "x"},
            ],
        },
    ]
    rows(client.post("/v1/embeddings", json={"messages": messages}))
    rows(
        client.post(
            "/v1/embeddings", json={"input": [{"text": "y", "instruction": "Own."}, "z"], "instruction": "All."}
        )
    )
    asked = [(request.content, request.role, request.instruction) for request in encoder.asked]
    assert asked == [
        (Content((Image(data=picture), Text("x"))), "query", "Find the caption."),
        (Content((Text("y"),)), "query", "Own."),
        (Content((Text("z"),)), "query", "All."),
    ]


def test_infinity_modality(client, encoder, helpers):
    picture = helpers.picture("red")
    rows(client.post("/v1/embeddings", json={"input": [helpers.data_uri(picture)], "modality": "image"}))
    assert encoder.asked[0].content == Content((Image(data=picture),))


def test_tei_embeds(client, encoder):
    found = client.post("/embed", json={"inputs": ["a", "b"], "prompt_name": "query", "truncate": True})
    expected = encoder.encode_document([Content.of("a"), Content.of("b")])
    np.testing.assert_array_equal(np.asarray(found.json(), np.float32), expected)
    assert np.asarray(client.post("/embed", json={"inputs": "a", "dimensions": 4}).json()).shape == (1, 4)
    assert client.post("/embed", json={"inputs": "a", "normalize": False}).status_code == 400


@pytest.mark.parametrize("address", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_rerank_shapes_are_told_apart_by_keys(client, address):
    likely, surely = 1 / (1 + np.exp(-1)), 1 / (1 + np.exp(-2))
    body = {"query": "q", "texts": ["aa", "aaa"]}
    assert client.post(address, json=body).json() == [{"index": 1, "score": surely}, {"index": 0, "score": likely}]
    tei = client.post(address, json=body | {"return_text": True, "raw_scores": True}).json()
    assert tei == [{"index": 1, "score": 2.0, "text": "aaa"}, {"index": 0, "score": 1.0, "text": "aa"}]
    jina = client.post(
        address, json={"query": "q", "documents": ["aa", {"text": "aaa"}], "return_documents": True, "top_n": 1}
    ).json()
    assert jina["results"] == [{"index": 1, "relevance_score": surely, "document": {"text": "aaa"}}]
    assert jina["usage"]["total_tokens"] > 0
    assert jina["model"] == "ranker"
    voyage = client.post(address, json={"query": "q", "documents": ["aa"], "truncation": True}).json()
    assert voyage["data"] == [{"index": 0, "relevance_score": likely}]
    assert client.post(address, json={"query": "q"}).status_code == 400
    assert client.post(address, json={"query": "q", "documents": ["a"], "model": "fake"}).status_code == 404


@given(st.lists(st.floats(-500, 500, width=16), min_size=1, max_size=8), st.sampled_from(["unit", "logit", None]))
def test_relevance_is_from_0_to_1_and_keeps_the_order(scores, scale):
    ranker = FakeReranker(lambda pair: 0.0, scale=scale)
    found = relevance(ranker, scores, raw=False)
    assert all(0 <= score <= 1 for score in found)
    by_raw = [score for _, score in sorted(zip(scores, found, strict=True))]
    assert by_raw == sorted(by_raw)
    if scale is None:
        assert len(set(found)) == len(set(scores))  # none becomes 1
    assert relevance(ranker, scores, raw=True) == scores


def test_rerank_takes_pictures(client, helpers):
    part = {"type": "image_url", "image_url": {"url": helpers.data_uri(helpers.picture())}}
    body = {"query": {"content": [part]}, "documents": [{"content": [part, {"type": "text", "text": "aa"}]}, "a"]}
    found = client.post("/v1/rerank", json=body).json()["results"]
    assert [each["index"] for each in found] == [0, 1]


def test_vllm_scores_pairs(client):
    for address in ("/score", "/v1/score"):
        one = client.post(address, json={"text_1": "q", "text_2": ["a", "aaa"]}).json()
        assert [each["score"] for each in one["data"]] == [0.5, 1 / (1 + np.exp(-2))]
    pairs = {"queries": ["q", "qq"], "documents": ["aa", "aa"], "use_activation": False}
    many = client.post("/score", json=pairs).json()
    assert [each["score"] for each in many["data"]] == [1.0, 0.0]
    uneven = client.post("/score", json={"text_1": ["a", "b"], "text_2": ["a", "b", "c"]})
    assert uneven.status_code == 400


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({}, 400, "give either input or messages"),
        ({"input": "a", "messages": []}, 400, "give either input or messages"),
        ({"input": ["a"] * 21}, 400, "20 are the most"),
        ({"input": [{"image": "http://169.254.169.254/x.png"}]}, 422, "not fetched"),
        ({"input": [{"image": "file:///etc/passwd"}]}, 422, "neither a data: URI nor base64"),
        ({"input": [{"image": "/etc/passwd"}]}, 422, "picture"),
        ({"input": ["a", {}]}, 422, "input[1]: has neither text nor image nor content"),
        ({"input": [{"content": [{"type": "video_url", "video_url": "x"}]}]}, 422, "'video_url'"),
        ({"input": [{"content": [3]}]}, 422, "a part of content must be an object"),
        ({"input": "a", "input_type": "sideways"}, 400, "'sideways' is no side"),
        ({"input": "a", "embedding_type": "float16"}, 400, "'float16' is no type"),
        ({"input": "a", "output_dtype": "binary", "dimensions": 4}, 400, "multiple of 8"),
        ({"input": "a", "late_chunking": True}, 400, "late_chunking"),
        ({"input": "a", "dimensions": 0}, 422, "dimensions"),
        ({"input": "a\ud800"}, 422, "input: it"),
        ({"input": {"text": 3}}, 422, "text must be a string"),
        ({"messages": ["x"]}, 422, "messages[0]"),
        ({"input": True}, 400, "token ids"),
    ],
)
def test_what_cannot_be_embedded_is_told_in_one_sentence(client, body, status, told):
    import json

    answer = client.post("/v1/embeddings", content=json.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert told in answer.json()["error"]["message"]


def test_models_alone_have_no_collection(client):
    assert client.post("/v1/search", json={"text": "a"}).status_code == 404
    assert client.get("/v1/collection").status_code == 404
    assert client.get("/health/ready").status_code == 200


def test_a_collection_serves_its_encoder_too(make_client, encoder):
    answer = make_client().post("/v1/embeddings", json={"model": "fake", "input": "x"})
    np.testing.assert_array_equal(rows(answer), encoder.encode_document([Content.of("x")]))


def test_usage_counts_what_the_model_read():
    from mmseek._types import Encoded

    class Counting(FakeEncoder):
        def stream(self, requests):
            return (Encoded(each.vector, tokens=7) for each in super().stream(requests))

    with TestClient(create_app(encoder=Counting())) as client:
        for _ in range(2):  # from the model, then from the cache
            assert client.post("/v1/embeddings", json={"input": ["a", "b"]}).json()["usage"]["total_tokens"] == 14


def test_nothing_to_serve_is_refused():
    from mmseek.errors import ConfigError

    with pytest.raises(ConfigError, match="nothing to serve"):
        create_app()


def test_a_call_reaches_a_reranker_whole_whatever_else_waits():
    """Some rerankers compare the documents of one query with one another: calls are never cut or mixed."""
    import threading

    calls = []

    class Listwise(FakeReranker):
        def stream(self, pairs):
            pairs = list(pairs)
            calls.append([pair.document.text for pair in pairs])
            return super().stream(pairs)

    asked = [[f"{name}{number}" for number in range(200)] for name in "abc"]
    with TestClient(create_app(reranker=Listwise(lambda _: 1.0))) as client:
        threads = [
            threading.Thread(target=client.post, args=("/rerank",), kwargs={"json": {"query": "q", "texts": texts}})
            for texts in asked
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(calls) == asked


def test_a_search_reranks_through_the_queues(retriever, encoder):
    from mmseek.pipeline import Retriever

    first = FakeReranker(lambda pair: float(len(pair.document.text)), spec="first")
    second = FakeReranker(lambda pair: -float(len(pair.document.text)), spec="second")
    chained = Retriever(retriever.encoder, retriever.collection, [first, second])
    with TestClient(create_app(chained)) as client:
        documents = [{"id": text, "text": text} for text in ("a", "aa", "aaa")]
        client.post("/v1/documents", json={"documents": documents})
        found = client.post("/v1/search", json={"text": "q"}).json()
        assert [hit["id"] for hit in found["hits"]] == ["a", "aa", "aaa"]
        assert [stage["reranker"] for stage in found["rerankers"]] == ["first", "second"]
        text = client.get("/metrics").text
        assert 'mmseek_batch_items_sum{model="reranker"} 2.0' in text
        assert client.post("/rerank", json={"query": "q", "texts": ["x"], "model": "second"}).status_code == 200
    assert chained.stages[0].reranker is first  # ours is a copy
