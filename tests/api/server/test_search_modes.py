"""`mode` and `filter` of a search over REST."""

import io
import json

import pytest
from PIL import Image

ITEMS = [
    {"id": "a", "text": "a red bicycle", "metadata": {"year": 2019}},
    {"id": "b", "text": "a blue bicycle", "metadata": {"year": 2021, "tags": ["map"]}},
    {"id": "c", "text": "the sea", "metadata": {"caption": "bicycles by the sea"}},
]


@pytest.fixture
def filled(make_client):
    client = make_client()
    assert client.post("/v1/documents", json={"documents": ITEMS}).json()["indexed"] == 3
    return client


@pytest.fixture
def png():
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    return buffer.getvalue()


def found(client, **body):
    answer = client.post("/v1/search", json={"text": "red bicycle", **body})
    assert answer.status_code == 200, answer.text
    return {hit["id"]: set(hit["scores"]) for hit in answer.json()["hits"]}


def test_modes(filled):
    assert found(filled) == {"a": {"dense"}, "b": {"dense"}, "c": {"dense"}}
    assert found(filled, mode="lexical") == {"a": {"lexical"}, "b": {"lexical"}, "c": {"lexical"}}
    assert found(filled, text="red", mode="lexical") == {"a": {"lexical"}}
    assert found(filled, mode="hybrid") == {name: {"dense", "lexical"} for name in "abc"}


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_filters(filled, mode):
    assert set(found(filled, mode=mode, filter='year > 2020 and tags contains "map"')) == {"b"}
    assert set(found(filled, mode=mode, filter="not year exists")) == {"c"}


def test_an_uploaded_picture_with_words(filled, png):
    form = {"text": "bicycle", "mode": "hybrid", "filter": "year > 2020"}
    answer = filled.post("/v1/search/upload", data=form, files={"image": ("p.png", png, "image/png")})
    (hit,) = answer.json()["hits"]
    assert (hit["id"], set(hit["scores"])) == ("b", {"dense", "lexical"})
    refused = filled.post("/v1/search/upload", data={"mode": "x"}, files={"image": ("p.png", png, "image/png")})
    assert refused.status_code == 422


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"filter": "year = 3"}, 400, "column 6"),
        ({"filter": ""}, 400, "column 1"),
        ({"filter": "\ud800"}, 400, "filter"),
        ({"mode": "sparse"}, 422, "mode"),
    ],
)
def test_refusals(filled, body, status, words):
    answer = filled.post(
        "/v1/search",
        content=json.dumps({"text": "x", **body}),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == status
    assert words in answer.json()["error"]["message"]
