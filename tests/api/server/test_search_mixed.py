"""Weighted parts, documents to be like, and groups over REST."""

import pytest

ITEMS = [
    {"id": "a", "text": "red", "parent_id": "p"},
    {"id": "b", "text": "blue", "parent_id": "p"},
    {"id": "c", "text": "green"},
]


@pytest.fixture
def filled(make_client):
    client = make_client(max_ids=3)
    assert client.post("/v1/documents", json={"documents": ITEMS}).json()["indexed"] == 3
    return client


def ids(client, **body):
    answer = client.post("/v1/search", json=body)
    assert answer.status_code == 200, answer.text
    return [hit["id"] for hit in answer.json()["hits"]]


def test_weighted_parts(filled, helpers):
    assert ids(filled, text="red")[0] == "a"
    assert ids(filled, also=[{"text": "blue", "weight": 2.0}, {"text": "red", "weight": -0.3}])[0] == "b"
    assert ids(filled, text="red", also=[{"text": "green", "weight": 3}])[0] == "c"
    assert ids(filled, also=[{"content": [{"type": "text", "text": "red"}], "weight": -1}])[-1] == "a"


def test_documents_to_be_like(filled):
    assert set(ids(filled, like=["a"])) == {"b", "c"}
    assert ids(filled, text="red", unlike=["c"])[0] == "a"


def test_groups(filled):
    assert ids(filled, text="red", group_by="parent") == ["a", "c"]
    assert set(ids(filled, text="blue", group_by="parent", k=1)) == {"b"}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"text": "x", "also": [{"text": "red", "weight": 0}]}, "weight"),
        ({"text": "x", "also": [{"weight": 1}]}, "also[0]"),
        ({"text": "x", "also": [{"image": "https://example.org/a.png"}]}, "data: URI"),
        ({"text": "x", "also": [{"image": "/etc/passwd"}]}, "also[0]"),
        ({"text": "x", "like": ["nobody"]}, "no document 'nobody'"),
        ({"text": "x", "like": ["a", "b", "c", "d"]}, "like has 4 ids"),
        ({"text": "x", "group_by": "colour"}, "group_by"),
        ({"also": []}, "query"),
    ],
)
def test_what_is_refused(filled, body, words):
    answer = filled.post("/v1/search", json=body)
    assert 400 <= answer.status_code < 500, answer.text
    assert words in answer.json()["error"]["message"]
