import pytest


@pytest.fixture
def filled(client, helpers):
    documents = [
        {"id": "text", "text": "a red bicycle"},
        {"id": "picture", "image": helpers.data_uri(helpers.picture("red"))},
        {"id": "both", "image": helpers.data_uri(helpers.picture("blue")), "text": "blue", "metadata": {"lang": "en"}},
        {"id": "note", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
    ]
    answer = client.post("/v1/documents", json={"documents": documents})
    assert answer.json() == {"indexed": 4, "unchanged": 0, "failed": []}
    return client


def found(answer):
    assert answer.status_code == 200, answer.text
    return [hit["id"] for hit in answer.json()["hits"]]


def test_finds_a_text_by_itself(filled):
    answer = filled.post("/v1/search", json={"text": "a red bicycle", "k": 2})
    hits = answer.json()["hits"]
    assert [hit["rank"] for hit in hits] == [1, 2]
    assert hits[0]["id"] == "text"
    assert hits[0]["score"] == pytest.approx(1.0, abs=1e-5)
    assert hits[0]["scores"].keys() == {"dense"}
    assert hits[0]["document"] == {"id": "text", "text": "a red bicycle"}
    assert answer.json()["took_ms"] >= 0


def test_finds_a_picture_by_itself(filled, helpers):
    answer = filled.post("/v1/search", json={"image": helpers.data_uri(helpers.picture("red"))})
    assert found(answer)[0] == "picture"


def test_finds_a_picture_and_text_by_both(filled, helpers):
    answer = filled.post("/v1/search", json={"image": helpers.data_uri(helpers.picture("blue")), "text": "blue"})
    hit = answer.json()["hits"][0]
    assert hit["id"] == "both"
    assert hit["document"] == {
        "id": "both",
        "image": "/v1/documents/both/images/0",
        "text": "blue",
        "metadata": {"lang": "en"},
    }


def test_finds_by_parts_in_order(filled):
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert found(filled.post("/v1/search", json={"content": parts}))[0] == "note"


def test_takes_a_picture_as_an_upload(filled, helpers):
    answer = filled.post(
        "/v1/search/upload",
        files={"image": ("any.png", helpers.picture("blue"), "image/png")},
        data={"text": "blue", "k": "2"},
    )
    assert len(found(answer)) == 2
    assert found(answer)[0] == "both"


def test_leaves_out_and_restricts(filled):
    asked = {"text": "a red bicycle", "exclude": ["text"], "candidates": ["text", "note", "unknown"]}
    assert found(filled.post("/v1/search", json=asked)) == ["note"]


@pytest.mark.parametrize(
    ("body", "status", "code", "words"),
    [
        ({}, 400, "bad_input", "neither text nor image"),
        ({"text": "  "}, 400, "bad_input", "neither text nor image"),
        ({"content": []}, 400, "bad_input", "neither text nor image"),
        ({"text": "a", "content": [{"type": "text", "text": "b"}]}, 400, "bad_input", "both content and text"),
        ({"image": "/etc/hostname"}, 400, "bad_input", "path"),
        ({"image": "../../secret.png"}, 400, "bad_input", "path"),
        ({"image": "file:///etc/hostname"}, 400, "bad_input", "file://"),
        ({"image": "http://127.0.0.1/a.png"}, 422, "url_refused", "not fetched"),
        ({"content": [{"type": "image", "image": "HTTPS://x.example/a.png"}]}, 422, "url_refused", "not fetched"),
        ({"image": "data:image/png;base64,@@@"}, 400, "bad_input", "base64"),
        ({"image": "data:image/png;base64,aGVsbG8="}, 422, "bad_media", "not a picture"),
        ({"text": "a", "k": 0}, 422, "bad_request", "k: "),
        ({"text": "a", "k": "many"}, 422, "bad_request", "k: "),
        ({"text": "a", "k": True}, 422, "bad_request", "k: "),
        ({"text": "a", "k": 1001}, 400, "bad_input", "1000"),
        ({"text": 5}, 422, "bad_request", "text: "),
        ({"text": "a", "color": "red"}, 422, "bad_request", "color: "),
        ({"text": "\ud800"}, 400, "bad_input", "text"),
        ({"text": "a", "instruction": "\ud800"}, 400, "bad_input", "instruction"),
        ({"text": "a", "exclude": ["\ud800"]}, 400, "bad_input", "exclude"),
    ],
)
def test_refuses_with_one_sentence(filled, body, status, code, words):
    import json

    answer = filled.post("/v1/search", content=json.dumps(body), headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert words in answer.json()["error"]["message"]
    assert answer.json().keys() == {"error"}
    assert answer.json()["error"].keys() == {"code", "message"}


def test_too_many_ids_are_refused(make_client):
    client = make_client(max_ids=2)
    answer = client.post("/v1/search", json={"text": "a", "exclude": ["a", "b", "c"]})
    assert answer.status_code == 400
    assert "exclude has 3 ids" in answer.json()["error"]["message"]
    answer = client.request("DELETE", "/v1/documents", json={"ids": ["a", "b", "c"]})
    assert answer.status_code == 400


def test_an_empty_collection_has_no_hits(client):
    assert found(client.post("/v1/search", json={"text": "anything"})) == []
