import pytest

from mmseek.testing import FakeReranker


@pytest.fixture
def filled(retriever, make_client):
    from mmseek.pipeline.reranking import as_stages

    scorer = FakeReranker(lambda pair: float(len(pair.document.text)))
    retriever.stages = as_stages([scorer], 10)
    client = make_client()
    documents = [{"id": "long", "text": "a long one"}, {"id": "short", "text": "s"}, {"id": "middle", "text": "four"}]
    assert client.post("/v1/documents", json={"documents": documents}).json()["indexed"] == 3
    return client


def test_hits_are_in_the_rerankers_order(filled):
    answer = filled.post("/v1/search", json={"text": "s"}).json()
    assert [hit["id"] for hit in answer["hits"]] == ["long", "middle", "short"]
    assert answer["hits"][0]["scores"]["rerank"] == 10.0
    (stage,) = answer["rerankers"]
    assert (stage["asked"], stage["scored"], stage["complete"]) == (3, 3, True)
    assert "explain" not in answer["hits"][0]


def test_a_request_may_do_without(filled):
    answer = filled.post("/v1/search", json={"text": "s", "rerank": False}).json()
    assert answer["hits"][0]["id"] == "short"
    assert "rerankers" not in answer


def test_threshold_and_explanation(filled):
    answer = filled.post("/v1/search", json={"text": "s", "threshold": 3, "explain": True}).json()
    assert [hit["id"] for hit in answer["hits"]] == ["long", "middle"]
    assert answer["below_threshold"] == 1
    told = answer["hits"][0]["explain"]
    assert told["first_rank"] in (2, 3)
    assert told["sent"] is None
    assert filled.post("/v1/search", json={"text": "s", "threshold": 99}).json()["hits"] == []


def test_a_server_without_a_reranker_says_so(client):
    assert client.post("/v1/search", json={"text": "s", "rerank": False}).status_code == 200
    answer = client.post("/v1/search", json={"text": "s", "rerank": True})
    assert answer.status_code == 400
    assert "start it with --rerank SPEC" in answer.json()["error"]["message"]
