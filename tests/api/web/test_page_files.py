"""The files of the page as answers: complete, confined, and under a strict policy."""

import re

import pytest

from mmseek.api.web import assets


def test_the_page_and_all_that_it_names_is_there(client):
    answer = client.get("/")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    named = set(re.findall(r'(?:src|href)="(web/[^"]+)"', answer.text))
    assert {"web/app.js", "web/style.css"} <= named
    for name in [*named, *(f"web/{name}" for name in assets())]:
        assert client.get(f"/{name}").status_code == 200, name
    for name, asset in assets().items():
        for imported in re.findall(r'(?:from|import) "\./([^"]+)"', asset.data.decode()):
            assert imported in assets(), f"{name} imports {imported}"


def test_no_other_host_is_named_and_nothing_is_inline(client):
    policy = client.get("/").headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    for name, asset in assets().items():
        text = asset.data.decode().replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert "://" not in text.replace("://${", ""), name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text), (
            name
        )
    page = assets()["index.html"].data.decode()
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\son[a-z]+=|style=", page) == []


def test_browsers_ask_whether_their_copy_is_good(client):
    first = client.get("/web/app.js")
    assert first.headers["cache-control"] == "no-cache"
    assert client.get("/web/app.js", headers={"if-none-match": first.headers["etag"]}).status_code == 304


@pytest.mark.parametrize(
    "name", ["", "../app.js", "..%2fassets.py", "%2e%2e/__init__.py", "assets.py", "app.js/", "/etc/passwd"]
)
def test_nothing_else_can_be_reached(client, name):
    answer = client.get(f"/web/{name}")
    assert answer.status_code in {404, 405}
    assert "import" not in answer.text


def test_the_page_is_no_part_of_the_described_api(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert "/" not in paths
    assert "/v1/thumbnails/{document_id}/{number}" in paths
