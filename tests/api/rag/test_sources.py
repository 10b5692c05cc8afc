"""A collection here and a collection behind a service are one and the same to an adapter."""

from __future__ import annotations

import asyncio
import io
import json

import httpx
import pytest
from PIL import Image as Pil

from mmseek import Content, Document, Image, Query, Retriever
from mmseek._types import Weighted
from mmseek.api.rag import SearchSource, open_source
from mmseek.api.rag.remote import RemoteSource, ServiceError, ServiceUnavailable
from mmseek.api.rag.sources import make_query, picture_of
from mmseek.errors import (
    CollectionError,
    ConfigError,
    InputError,
    ItemError,
    MediaError,
    MediaNotFound,
    NotACollection,
    UrlRefused,
)
from mmseek.pipeline.reranking import Reranking
from mmseek.testing import FakeReranker

ANSWER = {
    "hits": [{"rank": 1, "id": "a", "score": 0.5, "scores": {"dense": 0.5}, "document": {"id": "a", "text": "x"}}],
    "took_ms": 1.0,
}


def ids(hits):
    return [hit.id for hit in hits]


def test_both_are_sources(source):
    assert isinstance(source, SearchSource)
    assert open_source(source) is source


@pytest.mark.parametrize(
    ("text", "image", "first"), [("a red bicycle", None, "text"), ("", "red", "picture"), ("blue", "blue", "both")]
)
def test_searches_by_words_by_picture_and_by_both(source, pictures, text, image, first):
    query = make_query(text, None if image is None else pictures[image], k=2)
    hits = source.search(query)
    assert (len(hits), hits[0].id, hits[0].rank) == (2, first, 1)
    assert hits[0].score == pytest.approx(1.0, abs=1e-5)
    assert ids(asyncio.run(source.asearch(query))) == ids(hits)


def test_remote_hits_equal_local_ones(filled, serving):
    query = make_query("tide tables", k=5)
    here = open_source(filled).search(query)
    there = open_source(serving(filled)).search(query)
    assert ids(here) == ids(there)
    for one, other in zip(here, there, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-6)
        assert one.scores.keys() == other.scores.keys()
        assert one.document.metadata == other.document.metadata
        assert one.document.parent_id == other.document.parent_id
        assert one.document.content.texts == other.document.content.texts
        assert one.document.content.modality == other.document.content.modality


def test_filters_and_modes(source):
    assert sorted(ids(source.search(make_query("x", k=9, filter="year >= 2021")))) == ["both", "note", "picture"]
    assert ids(source.search(make_query("tide", k=9, mode="lexical"))) == ["note"]
    with pytest.raises(InputError, match="column"):
        source.search(make_query("x", k=1, filter="year = 2"))


def test_reads_counts_and_lists(source, pictures):
    assert source.count() == 5
    found = source.get(["two", "unknown", "note", "two"])
    assert sorted(found) == ["note", "two"]
    assert source.get([]) == {}
    assert [source.picture(image) for image in found["two"].content.images] == [
        pictures["red"].read_bytes(),
        pictures["green"].read_bytes(),
    ]
    assert len(list(source.documents())) == 5
    assert sorted(document.id for document in source.documents("year == 2024")) == ["both", "note"]
    assert list(source.documents("year == 1900")) == []


def test_a_service_is_listed_in_pages(filled, serving, monkeypatch):
    monkeypatch.setattr("mmseek.api.rag.remote._PAGE", 2)
    source = open_source(serving(filled))
    assert sorted(document.id for document in source.documents()) == ["both", "note", "picture", "text", "two"]
    assert sorted(source.get(["both", "note", "picture", "text", "two"])) == ["both", "note", "picture", "text", "two"]
    assert sorted(document.id for document in source.documents("year == 2024")) == ["both", "note"]


def test_adds_replaces_and_deletes(empty_source, pictures):
    source = empty_source
    given = [Document("a", Content.of(pictures["red"], "red"), {"n": 1}), Document("b", Content.of("words"))]
    assert source.add(given) == ()
    assert source.add([Document("b", Content.of("other words"), {"n": 2})]) == ()
    assert source.count() == 2
    assert source.get(["b"])["b"].metadata == {"n": 2}
    assert source.delete(["a", "unknown"]) == 1
    assert source.delete([]) == 0
    assert [document.id for document in source.documents()] == ["b"]


def test_documents_of_a_source_can_be_added_again(source):
    again = [Document(f"{document.id}-2", document.content) for document in source.documents()]
    assert source.add(again) == ()
    assert source.count() == 10
    assert source.get(["two-2"])["two-2"].content.modality == "image,text"


def test_a_bad_document_fails_alone(empty_source, tmp_path):
    given = [
        Document("gone", Content.of(tmp_path / "gone.png")),
        Document("empty", Content.of(" ")),
        Document("good", Content.of("words")),
    ]
    failed = empty_source.add(given)
    assert {error.item_id for error in failed} == {"gone", "empty"}
    assert all(isinstance(error, ItemError) and error.reason for error in failed)
    assert [document.id for document in empty_source.documents()] == ["good"]


def test_a_service_may_have_several_collections(filled, serving, tmp_path):
    from mmseek.api.server.hosting import CollectionRoot

    url = serving(root=CollectionRoot(tmp_path / "root", [filled.encoder]))
    httpx.post(f"{url}/v1/collections", json={"name": "a"}, timeout=120).raise_for_status()
    source = open_source(f"{url}/v1/collections/a")
    assert source.add(list(filled.collection.documents())) == ()
    assert source.count() == 5
    assert sorted(document.id for document in source.documents()) == ["both", "note", "picture", "text", "two"]
    assert (
        source.get(["picture"])["picture"].content.images[0].url == f"{url}/v1/collections/a/documents/picture/images/0"
    )
    assert source.picture(source.get(["picture"])["picture"].content.images[0])
    assert source.search(Query(Content.of("tide tables"), k=1))[0].id == "note"
    assert source.delete(["note"]) == 1
    with pytest.raises(InputError, match="no collection"):
        open_source(f"{url}/v1/collections/none").count()


def test_many_documents_go_to_a_service_in_several_requests(empty, serving, monkeypatch):
    monkeypatch.setattr("mmseek.api.rag.remote._BATCH_BYTES", 50)
    source = open_source(serving(empty))
    assert source.add([Document(str(n), Content.of("word " * 5)) for n in range(7)]) == ()
    assert source.count() == 7


@pytest.mark.parametrize("kind", ["local", "remote"])
def test_reranks_with_the_pictures(filled, serving, pictures, kind):
    """The reranker sees the bytes of the pictures, wherever they are; it can be left out for a query."""
    red = pictures["red"].read_bytes()

    def judge(pair):
        from mmseek.media import read_bytes

        return float(sum(read_bytes(image) == red for image in pair.document.images))

    reranker = FakeReranker(judge)
    if kind == "local":
        source = open_source(Retriever(filled.encoder, filled.collection, reranker))
    else:
        source = RemoteSource(serving(filled), reranker=reranker)
    query = make_query("a red bicycle", k=2)
    assert sorted(ids(source.search(query))) == ["picture", "two"]
    assert sorted(ids(asyncio.run(source.asearch(query)))) == ["picture", "two"]
    assert all(hit.scores["rerank"] == hit.score == 1.0 for hit in source.search(query))
    assert ids(source.search(query, rerank=False))[0] == "text"
    if kind == "remote":
        assert all(image.data is None for hit in source.search(query) for image in hit.document.content.images)


def test_a_mixed_query_is_the_same_over_a_service(source):
    like = Query(Content(()), k=9, like=("note",))
    assert "note" not in ids(source.search(like))
    words = Content.of("a red bicycle")
    pulled = Query(Content.of("tide tables"), k=1, also=(Weighted(words, 3.0),), group_by="parent")
    assert ids(source.search(pulled)) == ["text"]
    pushed = Query(Content.of("tide tables"), k=5, also=(Weighted(words, -3.0),), unlike=("both",))
    assert ids(source.search(pushed))[-1] == "text"


def test_the_rerankers_of_a_service_are_asked_unless_told_not_to(filled, serving):
    notes = FakeReranker(lambda pair: float(pair.document.text == "tide tables"))
    url = serving(Retriever(filled.encoder, filled.collection, notes))
    query = make_query("a red bicycle", k=2)
    assert ids(open_source(url).search(query))[0] == "note"
    assert ids(open_source(url).search(query, rerank=False))[0] == "text"
    assert ids(open_source(url, reranking=Reranking(threshold=0.5)).search(query)) == ["note"]
    asked = len(notes.pairs)
    here = open_source(url, rerank=FakeReranker(lambda pair: float(pair.document.text == "blue")), rerank_depth=5)
    assert ids(here.search(query))[0] == "both"
    assert len(notes.pairs) == asked


@pytest.mark.parametrize("kind", ["local", "remote"])
def test_chains_and_thresholds(filled, serving, kind):
    texts = FakeReranker(lambda pair: float(bool(pair.document.text)), spec="a")
    lengths = FakeReranker(lambda pair: float(len(pair.document.text)), spec="b")
    how = Reranking(threshold=5.0)
    if kind == "local":
        source = open_source(Retriever(filled.encoder, filled.collection, [texts, lengths], reranking=how))
    else:
        source = open_source(serving(filled), rerank=[texts, lengths], reranking=how)
    assert ids(source.search(make_query("anything", k=5))) == ["text", "note"]


def test_a_picture_elsewhere_is_never_fetched(source):
    for url in ("http://127.0.0.1:9/v1/documents/a/images/0", "http://example.org/a.png"):
        with pytest.raises(UrlRefused, match="not fetched"):
            source.picture(Image(url=url))


def test_a_source_from_a_folder(tmp_path, filled, monkeypatch):
    filled.close()
    opened = open_source(tmp_path / "filled", encoder=filled.encoder)
    assert opened.count() == 5
    with pytest.raises(CollectionError):
        opened.delete(["text"])
    opened.close()
    with pytest.raises(NotACollection):
        open_source(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("location", "options", "words"),
    [
        (42, {}, "cannot be searched"),
        ("http://", {}, "no address of a service"),
        ("http://host?x=1", {}, "no address of a service"),
        ("http://host", {"encoder": "mini"}, "encoder of its own collection"),
        ("http://host", {"timeout": 0}, "above 0 seconds"),
        ("http://host", {"retries": -1}, "at least 0"),
        ("http://host", {"rerank_depth": 0}, "at least 1"),
    ],
)
def test_bad_places_are_refused_in_a_sentence(location, options, words):
    with pytest.raises((InputError, ConfigError), match=words):
        open_source(location, **options)


def test_an_open_source_takes_no_options(filled):
    with pytest.raises(InputError, match="its own encoder"):
        open_source(filled, rerank="mini")


def test_pictures_are_taken_in_many_shapes(pictures):
    data = pictures["red"].read_bytes()
    assert picture_of(str(pictures["red"])).path == pictures["red"]
    assert picture_of(data).data == picture_of(io.BytesIO(data)).data == data
    assert picture_of(Pil.new("RGB", (2, 2))).data
    assert picture_of(Image(data=data)).data == data
    assert picture_of("data:image/png;base64,aGFsbG8=").data == b"hallo"


@pytest.mark.parametrize(
    ("image", "kind"), [("http://x.example/a.png", UrlRefused), ("", InputError), (b"", MediaError), (7, InputError)]
)
def test_other_pictures_are_refused(source, image, kind):
    with pytest.raises(kind):
        source.search(make_query("a", image, k=1))


@pytest.mark.parametrize(("text", "k"), [("", 1), ("  ", 1), (None, 1), ("a", 0), (5, 1)])
def test_bad_queries_are_refused(text, k):
    with pytest.raises(InputError):
        make_query(text, k=k)


def test_a_missing_picture_of_a_query_is_told(source, tmp_path):
    with pytest.raises(MediaNotFound):
        source.search(make_query("", tmp_path / "gone.png", k=1))


class Scripted(httpx.BaseTransport):
    """Answers one after the other; an exception among them is raised."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []

    def handle_request(self, request):
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def remote(*answers, **options):
    transport = Scripted(*answers)
    return RemoteSource("http://host/base/", backoff=0, transport=transport, **options), transport


def failing(status, code="x", message="because", **headers):
    return httpx.Response(status, json={"error": {"code": code, "message": message}}, headers=headers)


def test_asks_again_where_the_service_could_not_answer():
    answers = [
        httpx.ConnectError("no"),
        failing(503, "busy"),
        httpx.ReadTimeout("slow"),
        httpx.Response(200, json=ANSWER),
    ]
    source, transport = remote(*answers, api_key="secret")
    assert ids(source.search(make_query("a", k=1))) == ["a"]
    assert len(transport.requests) == 4
    assert {str(request.url) for request in transport.requests} == {"http://host/base/v1/search"}
    assert {request.headers["authorization"] for request in transport.requests} == {"Bearer secret"}
    assert json.loads(transport.requests[0].content)["text"] == "a"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.ConnectError("no"), "cannot be reached"),
        (httpx.ReadTimeout("slow"), "within 60 s"),
        (failing(503), "because"),
    ],
)
def test_gives_up_after_some_attempts(answer, words):
    source, transport = remote(*[answer] * 3, retries=2)
    with pytest.raises(ServiceUnavailable, match=words):
        source.count()
    assert len(transport.requests) == 3


def test_waits_as_long_as_the_service_asks(monkeypatch):
    slept = []
    monkeypatch.setattr("tenacity.nap.time.sleep", slept.append)
    busy = [failing(503, "busy", **{"Retry-After": wait}) for wait in ("2", "soon", "3600")]
    source, _ = remote(*busy, httpx.Response(200, json={"documents": 3}))
    assert source.count() == 3
    assert slept == [2.0, 0.0, 30.0]


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (failing(400, "bad_input", "k is 2"), InputError, "k is 2"),
        (failing(422, "bad_media", "no picture"), MediaError, "no picture"),
        (failing(422, "bad_request", "k: no"), InputError, "k: no"),
        (failing(401, "unauthorized", "no key"), InputError, "no key"),
        (failing(500, "collection_error", "oh"), ServiceError, "status 500: oh"),
        (httpx.Response(404, text="nothing here"), ServiceError, "status 404"),
        (httpx.Response(302, headers={"location": "http://elsewhere"}), ServiceError, "status 302"),
        (httpx.Response(200, text="<html>"), ServiceError, "as mmseek does"),
        (httpx.Response(200, json=[1]), ServiceError, "as mmseek does"),
        (httpx.Response(200, json={"hits": [{}]}), ServiceError, "as mmseek does"),
    ],
)
def test_a_refusal_is_told_at_once(answer, kind, words):
    source, transport = remote(answer)
    with pytest.raises(kind, match=words):
        source.search(make_query("a", k=1))
    assert len(transport.requests) == 1


async def test_an_asynchronous_search_that_finds_nobody():
    source = RemoteSource("http://127.0.0.1:9", retries=1, backoff=0)
    with pytest.raises(ServiceUnavailable, match="cannot be reached"):
        await source.asearch(make_query("a", k=1))
    source.close()


def test_everything_goes_in_pieces(source, monkeypatch):
    """No request and no step names more documents than a service takes at once."""
    monkeypatch.setattr("mmseek.api.rag.remote._DELETED", 2)
    monkeypatch.setattr("mmseek.api.rag.local._AT_ONCE", 2)
    assert source.clear(compact=True) == 5
    assert (source.count(), source.clear()) == (0, 0)


def test_a_picture_and_its_caption_are_one_hit_from_anywhere(empty_source, pictures):
    caption = Document("red#caption", Content.of("a roof"), {"caption_of": "red"}, "red")
    assert empty_source.add([Document("red", Content.of(pictures["red"])), caption]) == ()
    (hit,) = empty_source.search(Query(Content.of("a roof"), group_by="caption"))
    assert (hit.id, hit.document.content.text, len(hit.document.content.images)) == ("red", "a roof", 1)
    assert empty_source.picture(hit.document.content.images[0]) == pictures["red"].read_bytes()
