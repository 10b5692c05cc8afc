import pytest
from PIL import Image as Pil

from mmseek._types import Content, Document, Image, Text


def post(client, *documents):
    answer = client.post("/v1/documents", json={"documents": list(documents)})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_adds_replaces_and_skips_what_is_unchanged(client):
    assert post(client, {"id": "a", "text": "one"}, {"id": "b", "text": "two"})["indexed"] == 2
    assert post(client, {"id": "a", "text": "one"}, {"id": "b", "text": "new"}) == {
        "indexed": 1,
        "unchanged": 1,
        "failed": [],
    }
    assert client.get("/v1/documents/b").json() == {"id": "b", "text": "new"}
    assert client.get("/v1/collection").json()["documents"] == 2


def test_bad_items_fail_alone_and_say_where(client, helpers):
    whole = helpers.picture("red", kind="JPEG", size=(64, 64))
    answer = post(
        client,
        {"id": "good", "text": "fine"},
        {"id": "cut", "image": helpers.data_uri(whole[: len(whole) // 2], "image/jpeg")},
        {"id": "url", "image": "https://x.example/a.png"},
        {"text": "no id"},
        {"id": "path", "image": "/etc/hostname"},
        {"id": "bomb", "image": helpers.data_uri(helpers.header_bomb())},
        {"id": "empty", "text": " "},
        {"id": "good", "text": "again"},
        "not an object",
        {"id": "last", "image": helpers.data_uri(helpers.picture())},
    )
    assert answer["indexed"] == 2
    assert [(failure["position"], failure["id"]) for failure in answer["failed"]] == [
        (1, "cut"),
        (2, "url"),
        (3, None),
        (4, "path"),
        (5, "bomb"),
        (6, "empty"),
        (7, "good"),
        (8, None),
    ]
    codes = {failure["position"]: failure["code"] for failure in answer["failed"]}
    assert codes[2] == "url_refused"
    assert all(failure["message"] for failure in answer["failed"])
    assert client.get("/v1/documents/good").json()["text"] == "fine"
    assert client.get("/v1/documents/last").status_code == 200


def test_an_item_that_the_encoder_refuses_fails_alone(client, encoder):
    encoder.fail_on = "poison"
    answer = post(client, {"id": "a", "text": "poison"}, {"id": "b", "text": "food"})
    assert answer["indexed"] == 1
    assert [failure["position"] for failure in answer["failed"]] == [0]


def test_an_id_that_is_too_long_fails_alone(client):
    answer = post(
        client, {"id": "é" * 600, "text": "a"}, {"id": "\N{ROCKET}" * 512, "text": "b"}, {"id": "c", "text": "c"}
    )
    assert [failure["position"] for failure in answer["failed"]] == [0, 1]
    assert answer["indexed"] == 1


def test_too_many_documents_are_refused(make_client):
    client = make_client(max_documents=2)
    answer = client.post("/v1/documents", json={"documents": [{"id": str(n), "text": "x"} for n in range(3)]})
    assert answer.status_code == 400
    assert "3 documents" in answer.json()["error"]["message"]
    assert client.get("/v1/collection").json()["documents"] == 0


def test_no_documents_are_refused(client):
    assert client.post("/v1/documents", json={"documents": []}).status_code == 422


def test_deletes_one_and_many(client):
    post(client, *({"id": name, "text": name} for name in "abcd"))
    assert client.delete("/v1/documents/a").json() == {"deleted": 1}
    assert client.delete("/v1/documents/a").status_code == 404
    assert client.request("DELETE", "/v1/documents", json={"ids": ["b", "c", "nothing"]}).json() == {"deleted": 2}
    assert client.get("/v1/collection").json()["documents"] == 1
    assert client.get("/v1/documents/b").json()["error"]["code"] == "not_found"


def test_a_deletion_gives_the_space_back_if_asked(client, helpers):
    post(client, *({"id": name, "text": name, "image": helpers.data_uri(helpers.picture())} for name in "ab"))
    post(client, {"id": "c", "text": "c"})
    before = client.get("/v1/collection").json()["bytes"]
    body = {"filter": "modality == 'image,text'", "compact": True}
    assert client.request("DELETE", "/v1/documents", json={**body, "dry_run": True}).json()["would_delete"] == 2
    assert client.request("DELETE", "/v1/documents", json=body).json() == {"deleted": 2}
    assert client.get("/v1/collection").json()["bytes"] < before
    assert client.get("/v1/documents/c").status_code == 200


@pytest.mark.parametrize("name", ["a/b c/d.md", "ü?&#%", "a/images/0", "\N{ROCKET}"])
def test_ids_of_any_kind_have_addresses(client, helpers, name):
    from urllib.parse import quote

    post(client, {"id": name, "image": helpers.data_uri(helpers.picture())})
    shown = client.get(f"/v1/documents/{quote(name, safe='')}").json()
    assert shown["id"] == name
    assert client.get(shown["image"]).content == helpers.picture()
    assert client.delete(f"/v1/documents/{quote(name, safe='')}").json() == {"deleted": 1}


def test_pictures_come_back_as_they_were(client, helpers):
    files = {kind: helpers.picture(kind=kind) for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")}
    parts = [{"type": "image", "image": helpers.data_uri(data)} for data in files.values()]
    post(client, {"id": "all", "content": [{"type": "text", "text": "six"}, *parts]})
    shown = client.get("/v1/documents/all").json()["content"]
    assert shown[0] == {"type": "text", "text": "six"}
    for part, (kind, data) in zip(shown[1:], files.items(), strict=True):
        answer = client.get(part["image"])
        assert answer.content == data
        assert answer.headers["content-type"] == f"image/{kind.lower()}"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in answer.headers["content-security-policy"]


def test_there_is_no_other_picture(client, helpers):
    post(client, {"id": "a", "image": helpers.data_uri(helpers.picture())}, {"id": "b", "text": "words"})
    for address in ("a/images/1", "b/images/0", "unknown/images/0", "a/images/-1", "a/images/x"):
        answer = client.get(f"/v1/documents/{address}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_where_pictures_lie_on_the_server_is_never_told(client, retriever, tmp_path):
    kept = tmp_path / "private" / "holiday.png"
    kept.parent.mkdir()
    Pil.new("RGB", (8, 8)).save(kept)
    retriever.add([Document("a", Content((Image(path=kept), Text("sea"))))])
    shown = client.get("/v1/documents/a")
    found = client.post("/v1/search", json={"text": "sea"})
    assert client.get("/v1/documents/a/images/0").content == kept.read_bytes()
    kept.unlink()
    gone = client.get("/v1/documents/a/images/0")
    assert gone.status_code == 404
    for answer in (shown, found, gone, client.get("/v1/collection"), client.get("/openapi.json")):
        assert str(tmp_path) not in answer.text
        assert "holiday" not in answer.text


def test_a_file_that_is_no_picture_any_more_is_not_served(client, retriever, tmp_path):
    kept = tmp_path / "a.png"
    Pil.new("RGB", (8, 8)).save(kept)
    retriever.add([Document("a", Content((Image(path=kept),)))])
    kept.write_text("password: swordfish")
    answer = client.get("/v1/documents/a/images/0")
    assert answer.status_code == 404
    assert "swordfish" not in answer.text
