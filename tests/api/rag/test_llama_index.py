"""LlamaIndex's adapter: nodes, picture queries, filters, embeddings, reranking, bad input."""

from __future__ import annotations

import base64
import io

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import (
    ImageNode,
    MetadataMode,
    NodeRelationship,
    NodeWithScore,
    QueryBundle,
    TextNode,
)
from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from mmseek import Retriever
from mmseek.api.rag.llama_index import MmseekEmbedding, MmseekReranker, MmseekRetriever
from mmseek.api.rag.llama_index.filters import to_filter
from mmseek.api.rag.local import LocalSource
from mmseek.errors import InputError, UrlRefused
from mmseek.media import read_bytes
from mmseek.testing import FakeEncoder, FakeReranker


def ids(nodes):
    return [each.node.node_id for each in nodes]


def test_texts_are_text_nodes_under_the_ids_of_their_documents(source):
    retriever = MmseekRetriever(source, similarity_top_k=1)
    (found,) = retriever.retrieve("tide tables")
    assert type(found.node) is TextNode
    assert (found.node.node_id, found.node.text) == ("note", "tide tables")
    assert found.score == pytest.approx(1.0, abs=1e-5)
    assert found.node.metadata["year"] == 2024
    assert found.node.metadata["modality"] == "text"
    assert found.node.relationships[NodeRelationship.SOURCE].node_id == "book"
    assert ids(retriever.retrieve("tide tables")) == ["note"]
    shown = found.node.get_content(metadata_mode=MetadataMode.LLM)
    assert "lang: de" in shown
    assert "score" not in shown


def test_pictures_are_image_nodes(source, pictures):
    retriever = MmseekRetriever(source, similarity_top_k=1)
    (found,) = retriever.retrieve(QueryBundle(query_str="", image_path=str(pictures["red"])))
    node = found.node
    assert isinstance(node, ImageNode)
    assert (node.node_id, node.text, node.image) == ("picture", "", None)
    if isinstance(source, LocalSource):
        assert (node.image_path, node.image_mimetype) == (str(pictures["red"]), "image/png")
        assert node.metadata["mime_type"] == "image/png"
    else:
        assert node.image_url.endswith("/v1/documents/picture/images/0")


async def test_a_picture_with_words_asked_for_asynchronously(source, pictures):
    retriever = MmseekRetriever(source, similarity_top_k=1, include_images=True)
    (found,) = await retriever.aretrieve(QueryBundle(query_str="blue", image_path=str(pictures["blue"])))
    assert (found.node.node_id, found.node.text) == ("both", "blue")
    assert base64.b64decode(found.node.image) == pictures["blue"].read_bytes()


def one(key, operator, value):
    return MetadataFilters(filters=[MetadataFilter(key=key, operator=operator, value=value)])


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (None, ["both", "note", "picture", "text", "two"]),
        ("year >= 2024", ["both", "note"]),
        ({"year": 2024, "lang": "de"}, ["note"]),
        (MetadataFilters(filters=[]), ["both", "note", "picture", "text", "two"]),
        (one("year", FilterOperator.EQ, 2024), ["both", "note"]),
        (one("year", FilterOperator.NE, 2024), ["picture", "text", "two"]),
        (one("year", FilterOperator.LT, 2021), ["text"]),
        (one("year", FilterOperator.LTE, 2021), ["picture", "text"]),
        (one("year", FilterOperator.GT, 2021), ["both", "note"]),
        (one("year", FilterOperator.GTE, 2021), ["both", "note", "picture"]),
        (one("year", FilterOperator.IN, [2020, 2021]), ["picture", "text"]),
        (one("year", FilterOperator.IN, []), []),
        (one("year", FilterOperator.NIN, [2020, 2021]), ["both", "note", "two"]),
        (one("lang", FilterOperator.IS_EMPTY, None), ["both", "picture", "two"]),
        (one("lang", FilterOperator.TEXT_MATCH, "e"), ["note", "text"]),
        (one("lang", FilterOperator.ANY, ["n", "d"]), ["note", "text"]),
        (one("lang", FilterOperator.ALL, ["e", "d"]), ["note"]),
        (
            MetadataFilters(
                filters=[one("lang", FilterOperator.EQ, "de"), one("year", FilterOperator.EQ, 2021)],
                condition=FilterCondition.OR,
            ),
            ["note", "picture"],
        ),
        (
            MetadataFilters(filters=[one("year", FilterOperator.EQ, 2024)], condition=FilterCondition.NOT),
            ["picture", "text", "two"],
        ),
    ],
)
def test_filters(filled, filters, expected):
    nodes = MmseekRetriever(filled, similarity_top_k=9, filters=filters).retrieve("a")
    assert sorted(ids(nodes)) == expected


def test_filters_that_cannot_be_said(filled):
    with pytest.raises(InputError, match="no counterpart"):
        to_filter(one("lang", FilterOperator.TEXT_MATCH_INSENSITIVE, "e"))
    with pytest.raises(InputError, match="takes a list"):
        to_filter(one("lang", FilterOperator.IN, "e"))
    with pytest.raises(InputError, match="column"):
        MmseekRetriever(filled, filters="year =")


def test_modes_instructions_and_reranking(filled):
    assert ids(MmseekRetriever(filled, mode="lexical").retrieve("tide")) == ["note"]
    reranker = FakeReranker(lambda pair: float(pair.document.text == "tide tables"))
    both = Retriever(filled.encoder, filled.collection, reranker)
    assert ids(MmseekRetriever(both, similarity_top_k=1, instruction="find").retrieve("a red bicycle")) == ["note"]
    assert {pair.instruction for pair in reranker.pairs} == {"find"}


def test_bad_questions_are_refused(filled):
    retriever = MmseekRetriever(filled)
    with pytest.raises(InputError, match="neither text nor image"):
        retriever.retrieve("")
    with pytest.raises(UrlRefused):
        retriever.retrieve(QueryBundle(query_str="a", image_path="https://example.org/a.png"))
    with pytest.raises(InputError, match="at least 1"):
        MmseekRetriever(filled, similarity_top_k=0).retrieve("a")


async def test_embeddings_are_those_of_the_encoder(pictures):
    encoder = FakeEncoder()
    embedding = MmseekEmbedding(encoder, embed_batch_size=2)
    assert embedding.model_name == "fake"
    words = embedding.get_text_embedding("a")
    assert len(words) == encoder.identity.dim
    assert embedding.get_text_embedding_batch(["a", "b", "a"])[::2] == [words, words]
    assert embedding.get_query_embedding("a") == words == await embedding.aget_query_embedding("a")
    assert await embedding.aget_text_embedding("a") == words
    red = embedding.get_image_embedding(str(pictures["red"]))
    assert red == embedding.get_image_embedding(io.BytesIO(pictures["red"].read_bytes()))
    assert red == await embedding.aget_image_embedding(str(pictures["red"]))
    assert embedding.get_image_embedding_batch([str(pictures["red"])] * 3) == [red] * 3
    with pytest.raises(InputError):
        embedding.get_text_embedding(" ")


def test_embeddings_serve_an_index_of_llama_index():
    index = VectorStoreIndex(
        [TextNode(text="foo", id_="f"), TextNode(text="bar", id_="b")], embed_model=MmseekEmbedding(FakeEncoder())
    )
    assert ids(index.as_retriever(similarity_top_k=1).retrieve("bar")) == ["b"]


def red_judge(pictures):
    red = pictures["red"].read_bytes()
    return FakeReranker(lambda pair: float(sum(read_bytes(image) == red for image in pair.document.images)))


def test_the_reranker_sees_pictures_and_keeps_the_best(source, pictures):
    nodes = MmseekRetriever(source, similarity_top_k=5).retrieve("a red bicycle")
    reranker = MmseekReranker(red_judge(pictures), top_n=2, source=source)
    kept = reranker.postprocess_nodes(nodes, query_str="red?")
    assert sorted(ids(kept)) == ["picture", "two"]
    assert [each.score for each in kept] == [1.0, 1.0]


async def test_the_reranker_takes_nodes_of_any_retriever(pictures):
    data = base64.b64encode(pictures["red"].read_bytes()).decode()
    nodes = [
        NodeWithScore(node=TextNode(text="a", id_="text")),
        NodeWithScore(node=ImageNode(image=data, id_="inline")),
        NodeWithScore(node=ImageNode(image_path=str(pictures["blue"]), text="blue", id_="file")),
    ]
    reranker = MmseekReranker(red_judge(pictures), top_n=None)
    kept = await reranker.apostprocess_nodes(nodes, QueryBundle("", image_path=str(pictures["red"])))
    assert ids(kept) == ["inline", "text", "file"]
    with pytest.raises(InputError, match="for a query"):
        reranker.postprocess_nodes(nodes)
    assert reranker.postprocess_nodes([], query_str="a") == []
