"""LangChain's adapter beyond its suites: pictures, filters, reranking, bad input."""

from __future__ import annotations

import base64

import pytest
from langchain_core.documents import Document as LangChainDocument
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores import InMemoryVectorStore

from mmseek.api.rag.langchain import MmseekEmbeddings, MmseekReranker, MmseekRetriever, MmseekVectorStore
from mmseek.api.rag.local import LocalSource
from mmseek.errors import InputError, ItemError, MediaError, UrlRefused
from mmseek.testing import FakeEncoder, FakeReranker


def ids(documents):
    return [document.id for document in documents]


def test_metadata_says_what_was_found_and_where_its_pictures_are(source, pictures):
    retriever = MmseekRetriever(source=source, k=1)
    (text,) = retriever.invoke("tide tables")
    assert text.page_content == "tide tables"
    assert text.metadata == {
        "year": 2024,
        "lang": "de",
        "id": "note",
        "score": pytest.approx(1.0, abs=1e-5),
        "modality": "text",
        "parent_id": "book",
    }
    (picture,) = retriever.invoke("", image=pictures["red"])
    assert (picture.id, picture.page_content, picture.metadata["modality"]) == ("picture", "", "image")
    if isinstance(source, LocalSource):
        assert picture.metadata["image_path"] == str(pictures["red"])
        assert picture.metadata["mime_type"] == "image/png"
    else:
        assert picture.metadata["image_url"].endswith("/v1/documents/picture/images/0")
    assert not [value for value in picture.metadata.values() if isinstance(value, str) and "base64" in value]


def test_a_document_of_several_pictures_names_them_all(source):
    (found,) = MmseekRetriever(source=source, k=1, filter='id == "two"').invoke("then")
    places = found.metadata.get("image_paths") or found.metadata["image_urls"]
    assert len(places) == 2
    assert places[0] in (found.metadata.get("image_path"), found.metadata.get("image_url"))


def test_bytes_of_pictures_come_only_if_asked_for(source, pictures):
    retriever = MmseekRetriever(source=source, k=5, include_images=True)
    found = {document.id: document for document in retriever.invoke("blue")}
    head, _, data = found["both"].metadata["image"].partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(data) == pictures["blue"].read_bytes()
    assert "image" not in found["text"].metadata


async def test_a_picture_with_words_asked_for_asynchronously(source, pictures):
    retriever = MmseekRetriever(source=source, k=3)
    found = await retriever.ainvoke("blue", image=str(pictures["blue"]), k=1)
    assert ids(found) == ["both"]


def test_settings_hold_for_every_question_and_give_way_to_those_of_one(source):
    retriever = MmseekRetriever(source=source, k=9, filter={"year": 2024}, mode="lexical", instruction="find")
    assert ids(retriever.invoke("tide")) == ["note"]
    assert ids(retriever.invoke("bicycle")) == []
    assert ids(retriever.invoke("bicycle", filter="year == 2020")) == ["text"]
    assert sorted(ids(retriever.invoke("bicycle", mode="dense", filter={"year": [2020, 2021]}))) == ["picture", "text"]


def test_the_instruction_reaches_the_encoder(filled):
    told = []
    encode = filled.encoder.encode_query
    filled.encoder.encode_query = lambda contents, instruction=None: (told.append(instruction), encode(contents))[1]
    retriever = MmseekRetriever(source=filled, instruction="find photographs")
    retriever.invoke("a")
    retriever.invoke("a", instruction="find maps")
    assert told == ["find photographs", "find maps"]


def test_the_retriever_reranks_unless_told_not_to(tmp_path, filled):
    from mmseek import Retriever

    reranker = FakeReranker(lambda pair: float(pair.document.text == "tide tables"))
    retriever = MmseekRetriever(source=Retriever(filled.encoder, filled.collection, reranker), k=1)
    assert ids(retriever.invoke("a red bicycle")) == ["note"]
    assert ids(retriever.invoke("a red bicycle", rerank=False)) == ["text"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"k": 0}, "at least 1"),
        ({"filter": "year ="}, "column"),
        ({"filter": {"year": object()}}, "compares with"),
        ({"filter": {"a`b": 1}}, "no name of a field"),
        ({"filter": 5}, "a filter is"),
        ({"mode": "loud"}, "dense, lexical or hybrid"),
    ],
)
def test_bad_options_are_refused_in_a_sentence(filled, options, words):
    with pytest.raises(InputError, match=words):
        MmseekRetriever(source=filled).invoke("a", **options)


def test_bad_questions_are_refused(filled):
    retriever = MmseekRetriever(source=filled)
    with pytest.raises(InputError, match="neither text nor image"):
        retriever.invoke(" ")
    with pytest.raises(UrlRefused):
        retriever.invoke("a", image="https://example.org/a.png")
    with pytest.raises(MediaError):
        retriever.invoke("a", image=b"no picture")
    with pytest.raises(InputError, match="its own encoder"):
        MmseekRetriever(source=filled, rerank="mini")


def test_a_store_keeps_pictures_and_finds_by_them(empty_source, pictures):
    store = MmseekVectorStore(empty_source)
    (red,) = store.add_images([pictures["red"]], [{"n": 1}], ["red"])
    store.add_documents(
        [LangChainDocument(page_content="blue", id="b", metadata={"image_path": str(pictures["blue"]), "n": 2})]
    )
    assert red == "red"
    (found,) = store.similarity_search_by_image(pictures["red"], k=1)
    assert (found.id, found.metadata["n"], found.metadata["modality"]) == ("red", 1, "image")
    (both,) = store.similarity_search("blue", k=1, image=pictures["blue"], filter={"n": 2})
    assert (both.id, both.page_content, both.metadata["modality"]) == ("b", "blue", "image,text")


def test_what_a_store_gave_can_be_added_again(empty_source, pictures):
    store = MmseekVectorStore(empty_source)
    store.add_images([pictures["red"]], [{"n": 1}], ["red"])
    (found,) = store.get_by_ids(["red"])
    store.add_documents([found])
    assert store.get_by_ids(["red"]) == [found]
    assert store.source.get(["red"])["red"].metadata == {"n": 1}


async def test_scores_of_a_store(empty_source):
    store = MmseekVectorStore(empty_source)
    store.add_texts(["foo", "bar"], ids=["f", "b"])
    (first, score), _ = store.similarity_search_with_score("foo", k=2)
    assert (first.id, score) == ("f", pytest.approx(1.0, abs=1e-5))
    (again, relevance), *_ = await store.asimilarity_search_with_relevance_scores("foo", k=2)
    assert (again.id, relevance) == ("f", pytest.approx(1.0, abs=1e-5))
    retriever = store.as_retriever(
        search_type="similarity_score_threshold", search_kwargs={"score_threshold": 0.99, "k": 2}
    )
    assert ids(retriever.invoke("bar")) == ["b"]
    assert ids(store.as_retriever(search_kwargs={"k": 1}).invoke("foo")) == ["f"]


def test_a_store_is_asked_with_a_vector_of_its_encoder(empty, serving):
    store = MmseekVectorStore(empty)
    store.add_texts(["foo", "bar"], [{"n": 1}, {"n": 2}], ids=["f", "b"])
    vector = store.embeddings.embed_query("bar")
    assert ids(store.similarity_search_by_vector(vector, k=1)) == ["b"]
    assert ids(store.similarity_search_by_vector(vector, k=1, filter={"n": 1})) == ["f"]
    with pytest.raises(InputError):
        store.similarity_search_by_vector([1.0], k=1)
    remote = MmseekVectorStore(serving(empty))
    assert remote.embeddings is None
    with pytest.raises(InputError, match="not with a vector"):
        remote.similarity_search_by_vector(vector)
    with pytest.raises(InputError, match="not with a vector"):
        remote.max_marginal_relevance_search("foo")


async def test_what_repeats_is_passed_over(empty):
    store = MmseekVectorStore(empty)
    assert store.max_marginal_relevance_search("foo") == []
    store.add_texts(["foo", "foo", "foo", "bar"], [{"n": n} for n in range(4)], ids=["1", "2", "3", "b"])
    assert {document.page_content for document in store.similarity_search("foo", k=2)} == {"foo"}
    found = store.max_marginal_relevance_search("foo", k=2, lambda_mult=0.1)
    assert [document.page_content for document in found] == ["foo", "bar"]
    assert len(store.max_marginal_relevance_search("foo", k=2, lambda_mult=0.1, filter="n < 3")) == 2
    retriever = store.as_retriever(search_type="mmr", search_kwargs={"k": 2, "lambda_mult": 0.1})
    assert [document.page_content for document in await retriever.ainvoke("foo")] == ["foo", "bar"]


def test_one_bad_document_is_told_and_the_others_are_stored(empty_source):
    store = MmseekVectorStore(empty_source)
    with pytest.raises(ItemError, match="1 of 2 documents were not stored"):
        store.add_texts(["", "good"], ids=["bad", "good"])
    assert ids(store.get_by_ids(["bad", "good"])) == ["good"]


def test_bad_calls_of_a_store_are_refused(empty, pictures):
    store = MmseekVectorStore(empty)
    with pytest.raises(InputError, match="as many ids"):
        store.add_documents([LangChainDocument(page_content="a")], ids=["1", "2"])
    with pytest.raises(InputError, match="as many metadatas"):
        store.add_images([pictures["red"]], [])
    with pytest.raises(InputError, match="give them"):
        store.delete()
    with pytest.raises(InputError, match="no option 'color'"):
        store.delete(["a"], color="red")


def test_a_store_from_texts(tmp_path):
    embeddings = MmseekEmbeddings(FakeEncoder())
    store = MmseekVectorStore.from_texts(["foo", "bar"], embeddings, ids=["f", "b"], source=tmp_path / "new")
    assert ids(store.similarity_search("bar", k=1)) == ["b"]
    store.source.close()
    with pytest.raises(InputError, match="MmseekEmbeddings"):
        MmseekVectorStore.from_texts(["a"], DeterministicFakeEmbedding(size=4), source=tmp_path / "other")
    with pytest.raises(InputError, match="source="):
        MmseekVectorStore.from_texts(["a"], embeddings)


def test_embeddings_serve_another_store_and_take_pictures(pictures):
    embeddings = MmseekEmbeddings(FakeEncoder())
    store = InMemoryVectorStore(embeddings)
    store.add_texts(["foo", "bar"], ids=["f", "b"])
    assert ids(store.similarity_search("bar", k=1)) == ["b"]
    red, blue = embeddings.embed_image([pictures["red"], str(pictures["blue"])])
    assert embeddings.embed_image_query(pictures["red"]) == red != blue
    assert embeddings.embed_image_query(pictures["red"], "in blue") != red
    assert embeddings.embed_documents([]) == []
    with pytest.raises(InputError):
        embeddings.embed_documents(["a", " "])


def test_the_reranker_sees_pictures_and_keeps_the_best(source, pictures):
    from mmseek.media import read_bytes

    red = pictures["red"].read_bytes()
    reranker = FakeReranker(lambda pair: float(sum(read_bytes(image) == red for image in pair.document.images)))
    found = MmseekRetriever(source=source, k=5).invoke("a red bicycle")
    kept = MmseekReranker(reranker=reranker, top_n=2, source=source).compress_documents(found, "red?")
    assert sorted(ids(kept)) == ["picture", "two"]
    assert [document.metadata["relevance_score"] for document in kept] == [1.0, 1.0]
    assert all("relevance_score" not in document.metadata for document in found)


async def test_the_reranker_alone():
    reranker = FakeReranker(lambda pair: float(len(pair.document.text)))
    compressor = MmseekReranker(reranker=reranker, top_n=None, instruction="longest")
    documents = [LangChainDocument(page_content=text) for text in ("a", "aaa", "aa")]
    kept = await compressor.acompress_documents(documents, "long")
    assert [document.page_content for document in kept] == ["aaa", "aa", "a"]
    assert {pair.instruction for pair in reranker.pairs} == {"longest"}
    assert compressor.compress_documents([], "long") == []
    with pytest.raises(InputError, match="neither text nor image"):
        compressor.compress_documents(documents, "")
    with pytest.raises(InputError, match="at least 1"):
        MmseekReranker(reranker=reranker, top_n=0).compress_documents(documents, "long")


def test_a_document_that_cannot_be_scored_stands_last(tmp_path):
    from mmseek.media import read_bytes

    def judge(pair):
        return float(len(pair.document.text) + sum(len(read_bytes(image)) for image in pair.document.images))

    gone = LangChainDocument(page_content="long long text", metadata={"image_path": str(tmp_path / "gone.png")})
    kept = MmseekReranker(reranker=FakeReranker(judge)).compress_documents(
        [gone, LangChainDocument(page_content="a")], "question"
    )
    assert [document.page_content for document in kept] == ["a", "long long text"]


def test_a_reranker_by_its_spec(pictures):
    documents = [
        LangChainDocument(page_content="tide tables of the harbour"),
        LangChainDocument(page_content="a red bicycle"),
    ]
    kept = MmseekReranker(reranker="mini", top_n=1).compress_documents(documents, "a bicycle that is red")
    assert [document.page_content for document in kept] == ["a red bicycle"]
