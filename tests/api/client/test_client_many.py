"""Both clients against a server of many collections: collections, aliases, lists, jobs, requests that are repeated."""

import json

import httpx
import pytest
from fastapi.testclient import TestClient

from mmseek._types import Content, Document, Image, Text
from mmseek.api.server import create_app
from mmseek.api.server.hosting import CollectionRoot
from mmseek.client import NotFound
from mmseek.errors import CollectionExists, InputError
from mmseek.pipeline.reranking import as_stages
from mmseek.testing import FakeEncoder, FakeReranker


@pytest.fixture
def client(either, tmp_path):
    stages = as_stages([FakeReranker(lambda pair: -float(len(pair.document.text)))], None)
    root = CollectionRoot(tmp_path / "root", [FakeEncoder()], stages)
    with TestClient(create_app(root=root)) as opened:
        yield either(opened.app)


def test_collections_and_aliases(client):
    made = client.create_collection("one")
    assert (made.documents, made.encoder) == (0, "fake")
    client.create_collection("two", encoder="fake")
    assert client.set_alias("live", "one") is None
    assert client.set_alias("live", "two") == "one"
    names = client.collections()
    assert (names.collections, names.aliases, names.encoders) == (("one", "two"), {"live": "two"}, ("fake",))
    client.collection("live").add([{"id": "a", "text": "a"}])
    assert client.collection("two").info().documents == 1
    assert client.collection("one").info().documents == 0
    with pytest.raises(CollectionExists):
        client.create_collection("one")
    with pytest.raises(InputError, match="alias"):
        client.delete_collection("two")
    with pytest.raises(NotFound):
        client.collection("none").info()
    with pytest.raises(NotFound):
        client.info()  # there is no default one
    client.remove_alias("live")
    client.delete_collection("two")
    assert client.collections().collections == ("one",)


def test_compacting_says_how_many_vectors_went(client):
    client.create_collection("one")
    notes = client.collection("one")
    for text in ("a", "b"):
        notes.add([{"id": "a", "text": text}])
    assert (notes.compact(), notes.compact()) == (1, 0)
    assert notes.get("a").content.text == "b"


def test_documents_of_one_collection(client, helpers):
    client.create_collection("one")
    one = client.collection("one")
    picture = helpers.picture()
    documents = [Document(f"d{n}", Content.of(f"text {n}"), {"n": n}) for n in range(7)]
    shown = Document("p/1", Content((Image(data=picture), Text("a picture"))))
    assert one.add([*documents, shown]).indexed == 8
    assert one.get("p/1").content.images[0].url == "http://testserver/v1/collections/one/documents/p%2F1/images/0"
    assert one.picture("p/1") == picture
    assert one.picture("p/1", side=160)
    assert [each.id for each in one.documents(limit=3)] == [*(f"d{n}" for n in range(7)), "p/1"]
    assert [each.id for each in one.documents("n >= 5")] == ["d5", "d6"]
    page = one.page(limit=2)
    assert [each.id for each in page] == ["d0", "d1"]
    assert [each.id for each in one.page(limit=2, cursor=page.next)] == ["d2", "d3"]
    assert [each.id for each in one.get_many(["d3", "none", "d1"])] == ["d3", "d1"]
    counted = one.delete_where("n >= 5", dry_run=True)
    assert (counted.deleted, counted.would_delete) == (0, 2)
    assert one.delete_where("n >= 5").deleted == 2
    assert one.delete(["d0", "d1"]) == 2
    assert one.search("text 3", k=1, rerank=False).hits[0].id == "d3"
    assert one.search("text 3", rerank_fusion="rrf", rerank_depth=[5], rerank_budget=30.0).stages
    assert one.search_upload(picture, "a picture", k=1, rerank=False, exclude=["d3"]).hits[0].id == "p/1"
    found = one.recommend(["d3"], ["d2"], k=1)
    assert found.hits[0].id in ("d4", "p/1")


def test_jobs(client, helpers, tmp_path):
    client.create_collection("one")
    one = client.collection("one")
    path = tmp_path / "items.jsonl"
    path.write_text('{"id": "a", "text": "a"}\nbad\n')
    job = one.start_job(path)
    done = one.wait_for_job(job.id, pause=0.01)
    assert (done.state, done.indexed, done.failed, done.lines, done.progress) == ("done", 1, 1, 2, 1.0)
    assert done.ended
    (failed,) = one.job_failures(job.id)
    assert (failed.line, failed.code) == (2, "bad_item")
    items = [Document("b", Content.of("b")), {"id": "c", "image": "c.png"}]
    again = one.start_job(items, files={"c.png": helpers.picture()})
    assert one.wait_for_job(again.id, pause=0.01).indexed == 2
    alone = one.start_job(files={"d.png": helpers.picture("blue")})
    assert one.wait_for_job(alone.id, pause=0.01).indexed == 1
    assert [each.id for each in one.jobs()] == [alone.id, again.id, job.id]
    assert one.cancel_job(job.id).state == "done"
    with pytest.raises(InputError, match="done"):
        one.resume_job(job.id)
    one.forget_job(job.id)
    with pytest.raises(NotFound):
        one.job(job.id)
    with pytest.raises(InputError, match="import-root"):
        one.start_job(server_path="items.jsonl")
    for wrong in ({}, {"items": path, "server_path": "x"}):
        with pytest.raises(InputError, match="give"):
            one.start_job(**wrong)
    with pytest.raises(InputError, match="cannot be read"):
        one.start_job(tmp_path / "none.jsonl")


def test_what_changes_something_carries_a_key_that_stays_the_same_when_it_is_sent_again(either, helpers):
    seen, bodies = [], []
    first = {"error": {"code": "idempotency_in_progress", "message": "at work"}}

    def handle(request):
        seen.append(request.headers.get("idempotency-key"))
        bodies.append(request.content)
        if len(seen) == 1:
            return httpx.Response(503)
        if len(seen) == 2:
            return httpx.Response(409, json=first, headers={"retry-after": "0"})
        job = dict.fromkeys(("id", "state", "progress", "lines", "indexed", "unchanged", "failed", "error"))
        return httpx.Response(202, json=job)

    client = either(handler=handle)
    client.start_job(files={"a.png": helpers.picture()})
    assert len(set(seen)) == 1
    assert len(seen) == 3
    assert seen[0]
    assert len(set(bodies)) == 1  # the boundary of a form too, by which the server knows it again
    client.start_job([{"id": "a", "text": "a"}])
    assert seen[3] not in (None, seen[0])
    assert json.loads(bodies[3]) == {"id": "a", "text": "a"}
