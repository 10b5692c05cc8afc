"""Lists with cursors, several documents by id, and deleting by filter, over REST."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseek.api.server.cursors import make_cursor, read_cursor
from mmseek.api.server.errors import BadCursor


@pytest.fixture
def filled(client):
    items = [{"id": f"d{n}", "text": f"text {n}", "metadata": {"n": n}} for n in range(7)]
    assert client.post("/v1/documents", json={"documents": items}).json()["indexed"] == 7
    return client


def code(answer):
    return answer.status_code, answer.json()["error"]["code"]


def test_a_cursor_leads_through_the_list(filled, helpers):
    found, cursor = [], None
    while True:
        params = {"limit": 3, "filter": "n != 2"} | ({"cursor": cursor} if cursor else {})
        page = filled.get("/v1/documents", params=params).json()
        found += page["documents"]
        cursor = page["next"]
        if cursor is None:
            break
        filled.post("/v1/documents", json={"documents": [{"id": "d0", "text": "text 0", "metadata": {"n": 0}}]})
    assert [item["id"] for item in found] == ["d0", "d1", "d3", "d4", "d5", "d6"]
    assert found[0] == {"id": "d0", "text": "text 0", "metadata": {"n": 0}}
    item = {"id": "p", "image": helpers.data_uri(helpers.picture())}
    filled.post("/v1/documents", json={"documents": [item]})
    assert filled.get("/v1/documents", params={"filter": 'id == "p"'}).json()["documents"] == [
        {"id": "p", "image": "/v1/documents/p/images/0"}
    ]


def test_a_cursor_of_another_list_is_refused(filled):
    cursor = filled.get("/v1/documents", params={"limit": 2}).json()["next"]
    assert "d" not in cursor or "d1" not in cursor
    for params in ({"cursor": cursor, "filter": "n > 1"}, {"cursor": cursor + "x"}, {"cursor": "é"}, {"cursor": ""}):
        assert code(filled.get("/v1/documents", params=params)) == (400, "bad_cursor")
    assert filled.get("/v1/documents", params={"cursor": cursor, "limit": 5}).json()["next"] is None
    for wrong in ({"limit": 0}, {"limit": 1001}, {"limit": "x"}):
        assert code(filled.get("/v1/documents", params=wrong)) == (422, "bad_request")
    assert code(filled.get("/v1/documents", params={"filter": "n >"})) == (400, "bad_input")


@given(st.text(max_size=40) | st.binary(max_size=40).map(lambda raw: raw.decode("latin1")))
@settings(max_examples=60)
def test_no_text_breaks_the_reading_of_cursors(text):
    with contextlib.suppress(BadCursor):
        assert read_cursor(text, "a") >= 0


@given(st.integers(0, 2**63 - 1), st.none() | st.text(max_size=5), st.none() | st.text(max_size=5))
@settings(max_examples=30)
def test_cursors_come_back(place, name, text):
    assert read_cursor(make_cursor(place, name, text), name, text) == place
    with pytest.raises(BadCursor):
        read_cursor(make_cursor(place, name, text), name, f"{text}x")


def test_several_documents_by_id(filled):
    answer = filled.post("/v1/documents/get", json={"ids": ["d3", "none", "d1", "d3"]}).json()
    assert [item["id"] for item in answer["documents"]] == ["d3", "d1"]
    assert answer["missing"] == ["none"]
    assert code(filled.post("/v1/documents/get", json={"ids": []})) == (422, "bad_request")
    assert code(filled.post("/v1/documents/get", json={"ids": ["x"] * 1001})) == (400, "bad_input")


def test_deleting_by_filter_can_be_tried_first(filled):
    def delete(**body):
        return filled.request("DELETE", "/v1/documents", json=body)

    assert delete(filter="n >= 4", dry_run=True).json() == {"deleted": 0, "would_delete": 3}
    assert filled.get("/v1/collection").json()["documents"] == 7
    assert delete(filter="n >= 4").json() == {"deleted": 3}
    assert delete(ids=["d0", "none"], dry_run=True).json() == {"deleted": 0, "would_delete": 1}
    assert delete(ids=["d0", "none"]).json() == {"deleted": 1}
    assert [item["id"] for item in filled.get("/v1/documents").json()["documents"]] == ["d1", "d2", "d3"]
    for body in ({}, {"ids": ["a"], "filter": "n > 1"}, {"dry_run": True}, {"filter": "n >"}, {"filter": ""}):
        assert code(delete(**body)) == (400, "bad_input")
    assert filled.get("/v1/collection").json()["documents"] == 3
