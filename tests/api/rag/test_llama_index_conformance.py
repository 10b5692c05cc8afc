"""What LlamaIndex's base classes promise and its engines rely on, by public methods alone; it publishes no suite."""

from __future__ import annotations

import asyncio

import pytest
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.llms import MockLLM
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.schema import ImageNode, NodeWithScore, QueryBundle, TextNode

from mmseek.api.rag.llama_index import MmseekEmbedding, MmseekReranker, MmseekRetriever
from mmseek.testing import FakeEncoder, FakeReranker

QUESTION = "a red bicycle"


def seen(nodes):
    return [(each.node.node_id, each.score) for each in nodes]


class TestRetrieverConformance:
    @pytest.fixture
    def retriever(self, source):
        return MmseekRetriever(source, similarity_top_k=3)

    def test_nodes_with_scores_best_first(self, retriever):
        found = retriever.retrieve(QUESTION)
        assert isinstance(retriever, BaseRetriever)
        assert all(type(each) is NodeWithScore for each in found)
        assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)
        assert len({each.node.node_id for each in found}) == len(found) == 3

    def test_a_string_is_a_bundle(self, retriever):
        assert seen(retriever.retrieve(QUESTION)) == seen(retriever.retrieve(QueryBundle(QUESTION)))

    async def test_asynchronously_the_same(self, retriever):
        assert seen(await retriever.aretrieve(QUESTION)) == seen(retriever.retrieve(QUESTION))

    async def test_several_at_once(self, retriever):
        questions = [QUESTION, "tide tables", "blue"]
        together = await asyncio.gather(*map(retriever.aretrieve, questions))
        assert [seen(nodes) for nodes in together] == [seen(retriever.retrieve(each)) for each in questions]

    def test_nodes_survive_being_written_down(self, retriever):
        for each in retriever.retrieve(QUESTION):
            again = type(each.node).from_dict(each.node.to_dict())
            assert (again.node_id, again.get_content(), again.metadata) == (
                each.node.node_id,
                each.node.get_content(),
                each.node.metadata,
            )
            assert isinstance(again, ImageNode) == isinstance(each.node, ImageNode)

    def test_callbacks_hear_of_it(self, source):
        heard = LlamaDebugHandler(print_trace_on_end=False)
        MmseekRetriever(source, callback_manager=CallbackManager([heard])).retrieve(QUESTION)
        ((began, ended),) = heard.get_event_pairs(CBEventType.RETRIEVE)
        assert began.id_ == ended.id_

    async def test_a_query_engine_answers_from_it(self, retriever):
        engine = RetrieverQueryEngine.from_args(retriever, llm=MockLLM())
        answer = engine.query(QUESTION)
        assert seen(answer.source_nodes) == seen(retriever.retrieve(QUESTION))
        assert QUESTION in str(answer)
        assert seen((await engine.aquery(QUESTION)).source_nodes) == seen(answer.source_nodes)

    def test_fusion_takes_it_beside_others(self, retriever, source):
        lexical = MmseekRetriever(source, similarity_top_k=3, mode="lexical")
        fused = QueryFusionRetriever(
            [retriever, lexical], llm=MockLLM(), num_queries=1, similarity_top_k=2, use_async=False
        )
        assert fused.retrieve(QUESTION)[0].node.node_id == "text"


class TestEmbeddingConformance:
    @pytest.fixture
    def embedding(self):
        return MmseekEmbedding(FakeEncoder(), embed_batch_size=2)

    def test_it_is_one(self, embedding):
        assert isinstance(embedding, MultiModalEmbedding)
        assert embedding.to_dict()["class_name"] == embedding.class_name() == "MmseekEmbedding"

    def test_batches_are_single_ones(self, embedding):
        texts = ["a", "b", "a", "c", "d"]
        assert embedding.get_text_embedding_batch(texts) == [embedding.get_text_embedding(text) for text in texts]
        assert all(isinstance(number, float) for number in embedding.get_text_embedding("a"))

    async def test_asynchronously_the_same(self, embedding, pictures):
        texts, files = ["a", "b", "c"], [str(path) for path in pictures.values()]
        assert await embedding.aget_text_embedding_batch(texts) == embedding.get_text_embedding_batch(texts)
        assert await embedding.aget_query_embedding("a") == embedding.get_query_embedding("a")
        assert await embedding.aget_image_embedding_batch(files) == embedding.get_image_embedding_batch(files)

    def test_several_queries_are_one(self, embedding):
        whole = embedding.get_agg_embedding_from_queries(["a", "a"])
        assert whole == pytest.approx(embedding.get_query_embedding("a"))

    def test_similarity_is_the_cosine(self, embedding):
        one = embedding.get_text_embedding("a")
        assert embedding.similarity(one, one) == pytest.approx(1.0)

    async def test_it_is_a_step_of_a_pipeline(self, embedding):
        (node,) = await embedding.acall([TextNode(text="tide tables")])
        assert node.embedding == embedding.get_text_embedding("tide tables")


class TestPostprocessorConformance:
    @pytest.fixture
    def reranker(self):
        return MmseekReranker(FakeReranker(lambda pair: float(len(pair.document.text))), top_n=2)

    @pytest.fixture
    def nodes(self):
        return [NodeWithScore(node=TextNode(text=text, id_=text), score=0.0) for text in ("a", "ccc", "bb")]

    def test_it_is_one(self, reranker):
        assert isinstance(reranker, BaseNodePostprocessor)
        assert reranker.to_dict()["class_name"] == reranker.class_name() == "MmseekReranker"

    async def test_a_string_is_a_bundle_and_async_is_the_same(self, reranker, nodes):
        kept = seen(reranker.postprocess_nodes(nodes, query_str="q"))
        assert kept == [("ccc", 3.0), ("bb", 2.0)]
        assert kept == seen(reranker.postprocess_nodes(nodes, query_bundle=QueryBundle("q")))
        assert kept == seen(await reranker.apostprocess_nodes(nodes, query_str="q"))

    def test_what_is_given_stays_as_it_is(self, reranker, nodes):
        before = seen(nodes)
        reranker.postprocess_nodes(nodes, query_str="q")
        assert seen(nodes) == before

    def test_a_query_engine_uses_it(self, reranker, source):
        retriever = MmseekRetriever(source, similarity_top_k=5)
        engine = RetrieverQueryEngine.from_args(retriever, llm=MockLLM(), node_postprocessors=[reranker])
        assert next(iter(engine.query("q").source_nodes)).node.node_id == "text"
