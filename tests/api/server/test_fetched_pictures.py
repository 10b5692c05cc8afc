"""Pictures that a request names by URL: refused by default, fetched by the one fetcher where that is allowed."""

import numpy as np
import pytest
from fastapi.testclient import TestClient

from mmseek._types import Content, Image, Text
from mmseek.api.server import ServerLimits, create_app, serve_settings
from mmseek.errors import ConfigError
from mmseek.fetching import Fetcher, FetchRules
from mmseek.testing import FakeEncoder, FakeReranker


@pytest.fixture
def make():
    opened = []

    def start(**limits):
        reranker = FakeReranker(lambda pair: float(len(pair.document.images)), spec="ranker")
        client = TestClient(create_app(encoder=FakeEncoder(dim=16), reranker=reranker, limits=ServerLimits(**limits)))
        opened.append(client.__enter__())
        return client

    yield start
    for client in opened:
        client.__exit__(None, None, None)


def local(**rules):
    rules = FetchRules(wait=0.001, tries=1, **rules)
    return Fetcher(rules, resolver=lambda host, port: ["127.0.0.1"], allowed=lambda address: True)


def body(url, **more):
    return {
        "input": [{"content": [{"type": "text", "text": "a duck"}, {"type": "image_url", "image_url": {"url": url}}]}],
        **more,
    }


def test_refused_by_default(make, web):
    answer = make().post("/v1/embeddings", json=body(web.url("/a.png")))
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "url_refused")
    assert web.asked == []


def test_fetched_where_it_is_allowed(make, web, helpers):
    picture = helpers.picture("red")
    web.pages["/a.png"] = (200, {}, picture)
    client = make(fetcher=local())
    request = body(web.url("/a.png"))
    request["input"] *= 3
    found = [row["embedding"] for row in client.post("/v1/embeddings", json=request).json()["data"]]
    (expected,) = FakeEncoder(dim=16).encode_document([Content((Text("a duck"), Image(data=picture)))])
    np.testing.assert_allclose(found, [expected] * 3, atol=1e-6)
    assert len(web.asked) == 1, "the same picture is fetched once"
    documents = [{"text": "none"}, {"image": web.url("/a.png")}]
    ranked = client.post("/v1/rerank", json={"query": "duck", "documents": documents}).json()["results"]
    assert [row["index"] for row in ranked] == [1, 0]


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [("/none", "fetch_failed", "status 404"), ("/page", "fetch_failed", "no picture of a known format")],
)
def test_what_cannot_be_had_is_named_by_its_place(make, web, path, code, words):
    web.pages["/page"] = (200, {"Content-Type": "image/png"}, b"<html>")
    answer = make(fetcher=local()).post("/v1/embeddings", json=body(web.url(f"{path}?key=secret")))
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (422, code)
    assert error["message"].startswith("input[0]: ")
    assert words in error["message"]
    assert "secret" not in error["message"]


def test_this_machine_is_never_asked(make, web):
    answer = make(fetcher=Fetcher(FetchRules(tries=1))).post("/v1/embeddings", json=body(web.url("/", "127.0.0.1")))
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "url_refused")
    assert web.asked == []


def test_how_much_one_request_may_fetch(make, web, helpers):
    picture = helpers.picture("red", (64, 64), "BMP")
    web.pages["/a"] = (200, {}, picture)
    client = make(fetcher=local(), max_body_bytes=3 * len(picture))
    many = {"input": [{"image": web.url(f"/a?{number}")} for number in range(5)]}
    assert "more than" in client.post("/v1/embeddings", json=many).json()["error"]["message"]
    many["input"] = [{"image": web.url(f"/a?{number}")} for number in range(65)]
    assert "64 are the most" in client.post("/v1/embeddings", json=many).json()["error"]["message"]


def test_the_settings():
    assert serve_settings(None, {}).limits().fetcher is None
    fetcher = serve_settings(None, {"allow_urls": True, "url_hosts": (".example.org",)}).limits().fetcher
    assert fetcher.rules.hosts == (".example.org",)
    with pytest.raises(ConfigError, match="set both"):
        serve_settings(None, {"url_hosts": ("example.org",)}).limits()
