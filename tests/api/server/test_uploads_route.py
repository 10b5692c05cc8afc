"""Documents as a form, and giving space back: what an operator does with curl."""

import json

from mmseek._types import Image


def lines(*items):
    return "\n".join(item if isinstance(item, str) else json.dumps(item) for item in items).encode()


def post(client, *files, **headers):
    return client.post("/v1/documents/upload", files=list(files), headers=headers)


def test_items_name_the_files_that_are_sent_along(client, helpers, retriever):
    red, blue = helpers.picture("red"), helpers.picture("blue")
    items = lines(
        {"id": "a", "text": "a red one", "image": "red.png", "metadata": {"n": 1}},
        {"id": "b", "content": [{"type": "text", "text": "see"}, {"type": "image", "image": "blue.png"}]},
        {"id": "c", "text": "words"},
    )
    answer = post(
        client,
        ("items", ("items.jsonl", items)),
        ("files", ("red.png", red)),
        ("files", ("blue.png", blue)),
    )
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"indexed": 3, "unchanged": 0, "failed": []}
    found = retriever.collection.get(["a", "b"])
    assert [
        [part.path.read_bytes() for part in found[name].content.parts if isinstance(part, Image)] for name in "ab"
    ] == [
        [red],
        [blue],
    ]
    assert found["a"].metadata == {"n": 1}
    again = client.post(
        "/v1/documents",
        json={"documents": [{"id": "a", "text": "a red one", "image": helpers.data_uri(red), "metadata": {"n": 1}}]},
    )
    assert again.json()["unchanged"] == 1  # the same document, however it comes


def test_files_alone_are_documents_under_their_names(client, helpers):
    sent = [("files", (name, helpers.picture(colour))) for name, colour in (("a.png", "red"), ("dir/b.png", "blue"))]
    assert post(client, *sent).json()["indexed"] == 2
    assert client.get("/v1/documents/a.png").json()["image"] == "/v1/documents/a.png/images/0"


def test_bad_lines_fail_alone_under_their_line(client, helpers):
    items = lines(
        {"id": "good", "text": "fine"},
        "{no json",
        "",
        {"id": "missing", "image": "nowhere.png"},
        {"id": "path", "image": "/etc/hostname"},
        {"id": "url", "image": "https://x.example/a.png"},
        "[1]",
        {"id": "cut", "image": "cut.png"},
        {"id": "last", "image": "red.png"},
    )
    answer = post(
        client,
        ("items", ("items.jsonl", b"\xef\xbb\xbf" + items)),
        ("files", ("red.png", helpers.picture("red"))),
        ("files", ("cut.png", helpers.picture("red")[:40])),
    ).json()
    assert answer["indexed"] == 2
    assert [(each["position"], each["id"]) for each in answer["failed"]] == [
        (1, None),
        (3, "missing"),
        (4, "path"),
        (5, "url"),
        (6, None),
        (7, "cut"),
    ]
    codes = {each["position"]: each["code"] for each in answer["failed"]}
    assert (codes[1], codes[5], codes[7]) == ("bad_item", "url_refused", "bad_media")
    assert all(each["message"] for each in answer["failed"])


def test_forms_that_cannot_be_meant_are_refused_whole(client, helpers):
    picture = ("files", ("a.png", helpers.picture()))
    item = ("items", ("items.jsonl", lines({"id": "a", "text": "b"})))
    for sent, word in (
        ([item, item], "several files `items`"),
        ([picture, picture], "came twice"),
        ([picture, ("photo", ("b.png", helpers.picture()))], "'photo'"),
    ):
        answer = post(client, *sent)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_input"), answer.text
        assert word in answer.json()["error"]["message"]
    assert post(client, item, origin="https://elsewhere.example").json()["error"]["code"] == "cross_origin"
    assert client.get("/v1/collection").json()["documents"] == 0


def test_compacting_gives_the_space_of_replaced_documents_back(client):
    for text in ("one", "two", "three"):
        client.post("/v1/documents", json={"documents": [{"id": "a", "text": text}, {"id": "b", "text": "same"}]})
    client.delete("/v1/documents/b")
    answer = client.post("/v1/compact")
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["dropped"] == 3  # two earlier ones of a, and b
    assert told["bytes"] <= told["bytes_before"]
    assert client.post("/v1/compact").json()["dropped"] == 0
    hits = client.post("/v1/search", json={"text": "three"}).json()["hits"]
    assert [hit["id"] for hit in hits] == ["a"]
    assert client.get("/v1/documents/a").json()["text"] == "three"
