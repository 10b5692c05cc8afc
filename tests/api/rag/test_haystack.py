"""Haystack's adapter beyond its suites: pictures, pipelines, saving, filters, reranking, bad input."""

from __future__ import annotations

import os

import pytest
from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.components.writers import DocumentWriter
from haystack.dataclasses import ByteStream
from haystack.document_stores.in_memory import InMemoryDocumentStore
from haystack.document_stores.types import DuplicatePolicy
from haystack.errors import FilterError
from haystack.utils import Secret

from mmseek.api.rag.haystack import (
    MmseekDocumentEmbedder,
    MmseekDocumentStore,
    MmseekRanker,
    MmseekRetriever,
    MmseekTextEmbedder,
)
from mmseek.errors import InputError, ItemError, MediaError, NotACollection, UrlRefused
from mmseek.media import read_bytes
from mmseek.testing import FakeEncoder, FakeReranker


def ids(answer):
    return [document.id for document in answer["documents"]]


def blob(path):
    return ByteStream.from_file_path(path, mime_type="image/png")


def test_pictures_are_written_as_blobs_and_come_back_as_blobs(empty_source, pictures):
    store = MmseekDocumentStore(empty_source)
    given = [
        Document(blob=blob(pictures["red"]), meta={"n": 1}),
        Document(content="blue", blob=blob(pictures["blue"])),
        Document(content="words"),
    ]
    assert store.write_documents(given) == 3
    assert sorted(store.filter_documents(), key=lambda each: each.id) == sorted(given, key=lambda each: each.id)
    retriever = MmseekRetriever(store, top_k=1)
    (red,) = retriever.run(image=blob(pictures["red"]))["documents"]
    assert (red.id, red.content, red.blob.mime_type) == (given[0].id, None, "image/png")
    assert red.blob.data == pictures["red"].read_bytes()
    assert red.score == pytest.approx(1.0, abs=1e-5)
    assert red.meta["n"] == 1
    assert red.meta["modality"] == "image"
    (both,) = retriever.run(query="blue", image=str(pictures["blue"]))["documents"]
    assert (both.id, both.content, both.meta["modality"]) == (given[1].id, "blue", "image,text")


def test_recreating_gives_the_space_back(empty_source, empty, pictures):
    """Vectors and pictures leave the disk, and the store goes on with the same encoder."""

    def kept():
        folder = empty.collection.folder
        return sum(path.stat().st_size for path in folder.rglob("*") if path.suffix in {".png", ".vec"})

    store = MmseekDocumentStore(empty_source)
    nothing = kept()
    store.write_documents([Document(content=str(number), blob=blob(pictures["red"])) for number in range(20)])
    full = kept()
    store.delete_all_documents()
    assert (store.count_documents(), kept()) == (0, full), "as `mmseek delete`: `mmseek compact` gives the space back"
    store.write_documents([Document(content="again", blob=blob(pictures["blue"]))])
    store.delete_all_documents(recreate_index=True)
    assert store.count_documents() == 0
    assert kept() <= nothing
    store.delete_all_documents(recreate_index=True)
    assert store.write_documents([Document(content="new")]) == 1
    assert ids(MmseekRetriever(store).run(query="new")) == [store.filter_documents()[0].id]


async def test_asked_asynchronously(source, pictures):
    retriever = MmseekRetriever(MmseekDocumentStore(source), return_images=False)
    answer = await retriever.run_async(image=str(pictures["red"]), top_k=1)
    assert ids(answer) == ["picture"]
    assert answer["documents"][0].blob is None
    meta = answer["documents"][0].meta
    assert meta.get("image_path") == str(pictures["red"]) or meta["image_url"].endswith("/picture/images/0")


async def test_the_store_asynchronously(empty_source):
    store = MmseekDocumentStore(empty_source)
    documents = [Document(id=str(n), content=f"text {n}", meta={"n": n}) for n in range(4)]
    assert await store.write_documents_async(documents) == 4
    assert await store.write_documents_async(documents, DuplicatePolicy.SKIP) == 0
    assert await store.count_documents_async() == 4
    few = {"field": "meta.n", "operator": "<", "value": 2}
    assert sorted(each.id for each in await store.filter_documents_async(few)) == ["0", "1"]
    assert await store.update_by_filter_async(few, {"few": True}) == 2
    assert await store.delete_by_filter_async({"field": "meta.few", "operator": "==", "value": True}) == 2
    await store.delete_documents_async(["2"])
    assert await store.count_documents_async() == 1
    await store.delete_all_documents_async()
    assert await store.count_documents_async() == 0


def test_settings_hold_and_give_way(filled):
    retriever = MmseekRetriever(
        MmseekDocumentStore(filled), filters={"field": "year", "operator": "==", "value": 2024}, mode="lexical"
    )
    assert ids(retriever.run("tide bicycle")) == ["note"]
    assert ids(retriever.run("tide bicycle", filters="year == 2020")) == ["text"]


def test_a_picture_that_is_gone_leaves_its_hit(filled, pictures):
    store = MmseekDocumentStore(filled)
    pictures["red"].unlink()
    answer = MmseekRetriever(store, filters='id == "picture"').run("anything")
    assert ids(answer) == ["picture"]
    assert answer["documents"][0].blob is None


def test_a_pipeline_writes_finds_and_ranks(empty):
    store = MmseekDocumentStore(empty)
    writing = Pipeline()
    writing.add_component("writer", DocumentWriter(store))
    writing.run({"writer": {"documents": [Document(content=text) for text in ("a", "aaa", "aa")]}})
    asking = Pipeline()
    asking.add_component("retriever", MmseekRetriever(store, top_k=3))
    asking.add_component("ranker", MmseekRanker(FakeReranker(lambda pair: len(pair.document.text)), top_k=2))
    asking.connect("retriever.documents", "ranker.documents")
    answer = asking.run({"retriever": {"query": "a"}, "ranker": {"query": "long"}})["ranker"]
    assert [document.content for document in answer["documents"]] == ["aaa", "aa"]
    assert [document.score for document in answer["documents"]] == [3.0, 2.0]


def test_embedders_serve_another_store(pictures):
    encoder = FakeEncoder()
    documents = [
        Document(id="red", blob=blob(pictures["red"])),
        Document(id="blue", content="in blue", blob=blob(pictures["blue"])),
        Document(id="file", content="in green", meta={"image_path": str(pictures["green"])}),
        Document(id="text", content="words"),
    ]
    embedded = MmseekDocumentEmbedder(encoder).run(documents)["documents"]
    assert all(len(document.embedding) == encoder.identity.dim for document in embedded)
    assert all(document.embedding is None for document in documents)
    store = InMemoryDocumentStore()
    store.write_documents(embedded)
    asking = Pipeline()
    asking.add_component("embedder", MmseekTextEmbedder(encoder))
    asking.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=1))
    asking.connect("embedder.embedding", "retriever.query_embedding")
    for asked, found in (
        ({"text": "words"}, "text"),
        ({"image": str(pictures["red"])}, "red"),
        ({"text": "in blue", "image": blob(pictures["blue"])}, "blue"),
        ({"text": "in green", "image": str(pictures["green"])}, "file"),
    ):
        assert ids(asking.run({"embedder": asked})["retriever"]) == [found]


async def test_embedders_asynchronously():
    embedder = MmseekTextEmbedder(FakeEncoder())
    assert await embedder.run_async("a") == embedder.run("a")
    documents = MmseekDocumentEmbedder(FakeEncoder())
    assert await documents.run_async([Document(content="a")]) == documents.run([Document(content="a")])
    assert documents.run([]) == {"documents": []}


async def test_the_ranker_sees_blobs(pictures):
    red = pictures["red"].read_bytes()
    ranker = MmseekRanker(FakeReranker(lambda pair: float(any(read_bytes(i) == red for i in pair.document.images))))
    documents = [Document(content="a"), Document(id="red", blob=blob(pictures["red"]))]
    assert ids(ranker.run(documents, "red?", top_k=1)) == ["red"]
    assert ids(await ranker.run_async(documents, image=str(pictures["red"]))) == ["red", documents[0].id]
    assert ranker.run([], "a") == {"documents": []}
    with pytest.raises(InputError, match="neither text nor image"):
        ranker.run(documents)


def test_a_saved_pipeline_is_the_same_pipeline(tmp_path):
    os.environ["MMSEEK_TEST_KEY"] = "secret"
    try:
        store = MmseekDocumentStore("http://localhost:8000", api_key=Secret.from_env_var("MMSEEK_TEST_KEY"))
        pipeline = Pipeline()
        pipeline.add_component("embedder", MmseekTextEmbedder("mini", instruction="find"))
        pipeline.add_component("documents", MmseekDocumentEmbedder("mini", device="cpu"))
        pipeline.add_component("retriever", MmseekRetriever(store, top_k=3, filters="year == 2020", mode="hybrid"))
        pipeline.add_component("ranker", MmseekRanker("cross-encoder:any/model", top_k=2))
        text = pipeline.dumps()
        assert "secret" not in text
        again = Pipeline.loads(text, allowed_modules=["mmseek.*"])
        assert again.dumps() == text
        source = again.get_component("retriever").document_store.source
        assert source._client.headers["authorization"] == "Bearer secret"
        source.close()
    finally:
        del os.environ["MMSEEK_TEST_KEY"]


def test_what_is_open_cannot_be_saved(filled):
    with pytest.raises(InputError, match="cannot be saved"):
        MmseekDocumentStore(filled).to_dict()
    with pytest.raises(InputError, match="cannot be saved"):
        MmseekTextEmbedder(FakeEncoder()).to_dict()
    with pytest.raises(InputError, match="cannot be saved"):
        MmseekRanker(FakeReranker(lambda pair: 0.0)).to_dict()


def test_models_and_stores_are_opened_once_and_late(tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr(
        "mmseek.api.rag.encoding.load_encoder", lambda spec, device: loaded.append(spec) or FakeEncoder()
    )
    embedder = MmseekTextEmbedder("mini")
    assert loaded == []
    embedder.warm_up()
    embedder.warm_up()
    embedder.run("a")
    assert loaded == ["mini"]
    retriever = MmseekRetriever(MmseekDocumentStore(tmp_path / "nothing"))
    with pytest.raises(NotACollection):
        retriever.warm_up()


def test_a_store_of_a_folder_is_closed_and_opened_again(tmp_path, filled, monkeypatch):
    filled.close()
    monkeypatch.setattr("mmseek.pipeline.retriever.load_any", lambda spec, device: FakeEncoder())
    store = MmseekDocumentStore(tmp_path / "filled", mode="read")
    assert store.count_documents() == 5
    store.close()
    store.close()
    assert store.count_documents() == 5
    store.close()


def test_bad_documents_are_refused(empty, pictures):
    store = MmseekDocumentStore(empty)
    with pytest.raises(ItemError, match=r"application/pdf is no picture.*1 of 2 documents"):
        store.write_documents(
            [
                Document(id="pdf", blob=ByteStream(b"%PDF-1.7", mime_type="application/pdf")),
                Document(id="good", content="words"),
            ]
        )
    assert [document.id for document in store.filter_documents()] == ["good"]
    with pytest.raises(ItemError, match="neither text nor picture"):
        store.write_documents([Document(id="empty", content="")])
    with pytest.raises(InputError, match="takes a list of"):
        MmseekDocumentEmbedder(FakeEncoder()).run("words")
    with pytest.raises(MediaError, match="no picture"):
        MmseekDocumentEmbedder(FakeEncoder()).run([Document(blob=ByteStream(b"hello"))])


def test_bad_questions_are_refused(filled):
    with pytest.raises(InputError, match="must be an MmseekDocumentStore"):
        MmseekRetriever(InMemoryDocumentStore())
    with pytest.raises(FilterError):
        MmseekRetriever(MmseekDocumentStore(filled), filters="year =")
    retriever = MmseekRetriever(MmseekDocumentStore(filled))
    with pytest.raises(InputError, match="neither text nor image"):
        retriever.run()
    with pytest.raises(InputError, match="at least 1"):
        retriever.run("a", top_k=0)
    with pytest.raises(MediaError):
        retriever.run(image=ByteStream(b"hello"))
    with pytest.raises(UrlRefused):
        retriever.run(image="http://example.org/a.png")
