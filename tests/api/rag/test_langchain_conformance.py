"""LangChain's own suites, over a collection and over a service."""

from __future__ import annotations

import pytest
from langchain_tests.integration_tests import (
    EmbeddingsIntegrationTests,
    RetrieversIntegrationTests,
    VectorStoreIntegrationTests,
)
from langchain_tests.unit_tests import EmbeddingsUnitTests

from mmseek.api.rag.langchain import MmseekEmbeddings, MmseekRetriever, MmseekVectorStore
from mmseek.testing import FakeEncoder


class TestMmseekRetriever(RetrieversIntegrationTests):
    @pytest.fixture(autouse=True)
    def _given(self, source):
        self.source = source

    @property
    def retriever_constructor(self):
        return MmseekRetriever

    @property
    def retriever_constructor_params(self):
        return {"source": self.source}

    @property
    def retriever_query_example(self):
        return "a red bicycle"


class TestMmseekVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, empty_source):
        return MmseekVectorStore(empty_source)


class TestMmseekEmbeddings(EmbeddingsIntegrationTests):
    @property
    def embeddings_class(self):
        return MmseekEmbeddings

    @property
    def embedding_model_params(self):
        return {"encoder": FakeEncoder()}


class TestMmseekEmbeddingsAlone(EmbeddingsUnitTests):
    @property
    def embeddings_class(self):
        return MmseekEmbeddings

    @property
    def embedding_model_params(self):
        return {"encoder": FakeEncoder()}
