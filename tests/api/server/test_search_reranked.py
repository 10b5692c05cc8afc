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


def test_fusion_budget_and_depth_are_the_requests_to_say(filled):
    def ids(**body):
        answer = filled.post("/v1/search", json={"text": "s", **body})
        assert answer.status_code == 200, answer.text
        return [hit["id"] for hit in answer.json()["hits"]]

    assert ids() == ["long", "middle", "short"]
    assert ids(rerank_fusion=0.0)[0] == "short"  # the order before it
    assert ids(rerank_fusion=5) == ["long", "middle", "short"]
    assert set(ids(rerank_fusion="rrf")) == {"long", "middle", "short"}
    assert ids(k=1, rerank_depth=[1]) == ["short"]
    answer = filled.post("/v1/search", json={"text": "s", "k": 1, "rerank_depth": [2]}).json()
    assert answer["rerankers"][0]["asked"] == 2
    hurried = filled.post("/v1/search", json={"text": "s", "rerank_budget": 1e-9}).json()
    assert hurried["hits"][0]["id"] == "short"
    assert hurried["rerankers"][0]["complete"] is False
    assert ids() == ["long", "middle", "short"]  # of one request only


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"rerank_fusion": "sum"}, 422),
        ({"rerank_budget": 0}, 422),
        ({"rerank_depth": []}, 422),
        ({"rerank_depth": [0]}, 422),
        ({"rerank_depth": [1, 1]}, 400),
        ({"rerank_depth": [1001]}, 400),
    ],
)
def test_what_no_reranker_can_do_is_refused(filled, body, status):
    answer = filled.post("/v1/search", json={"text": "s", **body})
    assert answer.status_code == status
    assert "rerank_" in answer.json()["error"]["message"]


@pytest.mark.parametrize("body", [{"rerank_fusion": 1}, {"rerank_budget": 1}, {"rerank_depth": [5]}])
def test_what_needs_a_reranker_says_so(client, body):
    answer = client.post("/v1/search", json={"text": "s", **body})
    assert answer.status_code == 400
    assert next(iter(body)) in answer.json()["error"]["message"]


def test_what_was_not_scored_is_told_without_the_reason(filled, retriever):
    from mmseek.errors import MediaNotFound

    def judge(pair):
        if pair.document.text == "four":
            raise MediaNotFound("/secret/place is gone")
        return 1.0

    retriever.stages[0].reranker._judge = judge
    answer = filled.post("/v1/search", json={"text": "s"})
    assert answer.json()["unscored"] == [{"id": "middle", "code": "media_not_found"}]
    assert "secret" not in answer.text
    assert set(answer.json()["timings"]) == {"encode", "search", "rerank"}


def test_recommendations_are_not_reranked_and_leave_out_what_they_are_made_of(filled):
    answer = filled.post("/v1/recommend", json={"like": ["long"], "unlike": ["short"]})
    assert answer.status_code == 200, answer.text
    assert [hit["id"] for hit in answer.json()["hits"]] == ["middle"]
    assert "rerankers" not in answer.json()
    for body in ({}, {"like": []}, {"unlike": ["long"]}, {"like": ["none"]}, {"like": ["long"], "text": "x"}):
        assert filled.post("/v1/recommend", json=body).status_code in (400, 422)


def test_a_form_may_ask_for_all_that_a_body_may(filled, helpers):
    def upload(**fields):
        return filled.post("/v1/search/upload", files={"image": ("a.png", helpers.picture())}, data=fields)

    answer = upload(k="2", options='{"rerank_fusion": "rrf", "exclude": ["long"], "explain": true, "k": 1}')
    assert answer.status_code == 200, answer.text
    assert sorted(hit["id"] for hit in answer.json()["hits"]) == ["middle", "short"]
    assert "explain" in answer.json()["hits"][0]
    for wrong in ("x", "[]", '{"text": "x"}', '{"none": 1}', '{"k": 0}'):
        assert upload(options=wrong).status_code in (400, 422)
