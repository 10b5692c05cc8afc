"""Pictures that a request names by URL: refused by default, fetched by the one fetcher where that is allowed."""

import json
import threading
from urllib.parse import quote

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


@pytest.fixture
def serving(retriever, tmp_path):
    """Starts a service of a collection, with bulk jobs."""
    opened = []

    def start(**limits):
        client = TestClient(create_app(retriever, data=tmp_path / "data", limits=ServerLimits(**limits)))
        opened.append(client.__enter__())
        return client

    yield start
    for client in opened:
        client.__exit__(None, None, None)


def ended(client, helpers, lines):
    """A job of these items, when it is over."""
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    sent = client.post("/v1/jobs", content=content, headers={"content-type": "application/x-ndjson"})
    assert sent.status_code == 202, sent.text
    address = f"/v1/jobs/{sent.json()['id']}"
    helpers.wait_until(lambda: client.get(address).json()["state"] not in ("waiting", "running"))
    return client.get(address).json(), client.get(f"{address}/failures").json()["failures"]


SEARCHES = {
    "image": lambda url: ("/v1/search", {"image": url}),
    "content": lambda url: ("/v1/search", {"content": [{"type": "image", "image": url}]}),
    "also": lambda url: ("/v1/search", {"also": [{"image": url}]}),
}


@pytest.mark.parametrize("how", SEARCHES)
def test_a_search_with_the_picture_at_a_url(serving, web, helpers, how):
    picture = helpers.picture("red")
    web.pages["/a.png"] = (200, {}, picture)
    client = serving(fetcher=local())
    items = [{"id": "red", "image": helpers.data_uri(picture)}, {"id": "note", "text": "note"}]
    assert client.post("/v1/documents", json={"documents": items}).json()["indexed"] == 2
    path, asked = SEARCHES[how](web.url("/a.png"))
    answer = client.post(path, json=asked | {"k": 1})
    assert answer.status_code == 200, answer.text
    (hit,) = answer.json()["hits"]
    assert (hit["id"], round(hit["score"], 4)) == ("red", 1.0)
    answer = client.post(path, json=SEARCHES[how](web.url("/none?key=secret"))[1])
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (422, "fetch_failed")
    assert "status 404" in error["message"]
    assert "secret" not in error["message"]


def test_a_form_may_have_them_among_its_options(serving, web, helpers):
    picture = helpers.picture("red")
    web.pages["/a.png"] = (200, {}, picture)
    client = serving(fetcher=local())
    client.post("/v1/documents", json={"documents": [{"id": "red", "image": helpers.data_uri(picture)}]})
    options = {"also": [{"image": web.url("/a.png")}]}
    form = {"files": {"image": ("q.png", helpers.picture("blue"))}, "data": {"options": json.dumps(options)}}
    assert client.post("/v1/search/upload", **form).json()["hits"][0]["id"] == "red"
    assert len(web.asked) == 1


def test_documents_keep_the_picture_and_fail_alone(serving, web, helpers, tmp_path):
    picture = helpers.picture("red")
    web.pages["/a.png"] = (200, {}, picture)
    web.pages["/page"] = (200, {"Content-Type": "image/png"}, b"<html>")
    client = serving(fetcher=local())
    parts = [{"type": "text", "text": "see"}, {"type": "image", "image": web.url("/a.png")}]
    items = [
        {"id": "one", "image": web.url("/a.png"), "text": "a caption"},
        {"id": "two", "content": parts},
        {"id": "three", "image": web.url("/none")},
        {"id": "four", "image": web.url("/page")},
        {"id": "five", "text": "words"},
        {"id": "six", "image": "/etc/hostname"},
    ]
    answer = client.post("/v1/documents", json={"documents": items}).json()
    assert answer["indexed"] == 3
    assert [(each["id"], each["position"], each["code"]) for each in answer["failed"]] == [
        ("three", 2, "fetch_failed"),
        ("four", 3, "fetch_failed"),
        ("six", 5, "bad_item"),
    ]
    assert [path for path, _ in web.asked].count("/a.png") == 1
    web.pages.clear()  # the collection has its own
    for name in ("one", "two"):
        assert client.get(f"/v1/documents/{name}/images/0").content == picture
    assert len([path for path in (tmp_path / "collection" / "assets").rglob("*") if path.is_file()]) == 1
    many = [{"id": f"d{number}", "image": web.url(f"/a.png?{number}")} for number in range(65)]
    refused = client.post("/v1/documents", json={"documents": many})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "bad_input")
    assert "64 are the most" in refused.json()["error"]["message"]


def test_jobs_keep_the_pictures_and_tell_which_lines_failed(serving, web, helpers):
    pictures = {f"/{number}.png": helpers.picture(size=(10 + number, 10)) for number in range(20)}
    web.pages |= {path: (200, {}, data) for path, data in pictures.items()}
    client = serving(fetcher=local())
    lines = [{"id": path, "image": web.url(path)} for path in pictures]
    lines[7:7] = [{"id": "gone", "image": web.url("/gone")}, {"id": "words", "text": "words"}, {"id": "none"}]
    job, failures = ended(client, helpers, lines)
    assert (job["state"], job["indexed"], job["failed"], job["lines"]) == ("done", 21, 2, 23)
    assert [(each["line"], each["id"], each["code"]) for each in failures] == [
        (8, "gone", "fetch_failed"),
        (10, "none", "bad_item"),
    ]
    web.pages.clear()
    for path, data in pictures.items():
        address = f"/v1/documents/{quote(path, safe='')}/images/0"
        assert client.get(address).content == data
    assert len(web.asked) == 21


def test_a_job_holds_no_more_pictures_at_once_than_lines(serving, web, helpers, monkeypatch):
    monkeypatch.setattr("mmseek.api.server.jobs.remote.BYTES", 1)  # so that each group ends its batch
    web.pages["/a.png"] = (200, {}, helpers.picture())
    stored = []
    client = serving(fetcher=local())
    retriever = client.app.state.service.opened
    add = retriever.collection.upsert
    monkeypatch.setattr(
        retriever.collection, "upsert", lambda documents, *more: (stored.append(len(documents)), add(documents, *more))
    )
    lines = [{"id": f"d{number}", "image": web.url("/a.png?" + str(number))} for number in range(20)]
    lines.insert(3, {"id": "none"})
    lines.insert(18, {"id": "none"})
    job, failures = ended(client, helpers, lines)
    assert (job["state"], job["indexed"], job["lines"], job["progress"]) == ("done", 20, 22, 1.0)
    assert [each["line"] for each in failures] == [4, 19]
    assert stored == [8, 8, 4]
    assert len(web.asked) == 20


def test_a_job_that_is_cancelled_stops_fetching_at_once(serving, web, helpers):
    hold, reached = threading.Event(), threading.Event()

    def slow(headers):
        reached.set()
        assert hold.wait(30)
        return 200, {}, helpers.picture()

    web.pages["/slow.png"] = slow
    client = serving(fetcher=local())
    line = json.dumps({"id": "a", "image": web.url("/slow.png")}).encode()
    job = client.post("/v1/jobs", content=line, headers={"content-type": "application/x-ndjson"}).json()["id"]
    assert reached.wait(30)
    try:
        assert client.post(f"/v1/jobs/{job}/cancel").json()["state"] == "cancelled"
        # Another one is worked off while that address still keeps its answer back.
        assert ended(client, helpers, [{"id": "b", "text": "b"}])[0]["indexed"] == 1
        assert not hold.is_set()
    finally:
        hold.set()
    assert client.get("/v1/documents/a").status_code == 404
    assert client.post(f"/v1/jobs/{job}/resume").status_code == 200
    helpers.wait_until(lambda: client.get(f"/v1/jobs/{job}").json()["state"] == "done")
    assert client.get("/v1/documents/a/images/0").content == helpers.picture()


def test_without_the_flag_nothing_is_fetched_anywhere(serving, web, helpers):
    client = serving()
    url = web.url("/a.png")
    for path, sent in [make_body(url) for make_body in SEARCHES.values()]:
        answer = client.post(path, json=sent)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "url_refused")
    answer = client.post("/v1/documents", json={"documents": [{"id": "a", "image": url}, {"id": "b", "text": "b"}]})
    assert answer.json()["indexed"] == 1
    assert [each["code"] for each in answer.json()["failed"]] == ["url_refused"]
    job, failures = ended(client, helpers, [{"id": "a", "image": url}])
    assert (job["state"], [each["code"] for each in failures]) == ("done", ["url_refused"])
    assert web.asked == []


def test_private_addresses_are_refused_here_too(serving, web, helpers):
    client = serving(fetcher=Fetcher(FetchRules(tries=1)))
    url = web.url("/a.png", "127.0.0.1")
    assert client.post("/v1/search", json={"image": url}).json()["error"]["code"] == "url_refused"
    answer = client.post("/v1/documents", json={"documents": [{"id": "a", "image": url}]})
    assert [each["code"] for each in answer.json()["failed"]] == ["url_refused"]
    assert [each["code"] for each in ended(client, helpers, [{"id": "a", "image": url}])[1]] == ["url_refused"]
    assert web.asked == []


def test_a_request_ends_at_its_deadline_while_it_fetches(serving, web, helpers):
    hold = threading.Event()
    web.pages["/slow.png"] = lambda headers: hold.wait(30) and (200, {}, b"")
    client = serving(fetcher=local())
    try:
        answer = client.post("/v1/search", json={"image": web.url("/slow.png")}, headers={"x-request-timeout": "0.2"})
    finally:
        hold.set()
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")
