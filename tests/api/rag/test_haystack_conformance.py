"""Haystack's own suites for document stores, over a collection and over a service."""

from __future__ import annotations

from dataclasses import replace

import pytest
from haystack import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.testing.document_store import DocumentStoreBaseExtendedTests
from haystack.testing.document_store_async import (
    CountDocumentsAsyncTest,
    DeleteAllAsyncTest,
    DeleteByFilterAsyncTest,
    DeleteDocumentsAsyncTest,
    FilterDocumentsAsyncTest,
    UpdateByFilterAsyncTest,
    WriteDocumentsAsyncTest,
)

from mmseek.api.rag.haystack import MmseekDocumentStore


class Equality:
    def assert_documents_are_equal(self, received, expected):
        """Everything but the embedding, which a collection makes itself; a service gives no order."""
        received = sorted(received, key=lambda document: document.id)
        assert received == sorted((replace(each, embedding=None) for each in expected), key=lambda each: each.id)


class TestMmseekDocumentStore(Equality, DocumentStoreBaseExtendedTests):
    @pytest.fixture
    def document_store(self, empty_source):
        return MmseekDocumentStore(empty_source)

    def test_write_documents(self, document_store):
        """Without a policy, a document that is there already is refused."""
        document = Document(content="test doc")
        assert document_store.write_documents([document]) == 1
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents([document])
        self.assert_documents_are_equal(document_store.filter_documents(), [document])


class TestMmseekDocumentStoreAsynchronously(
    Equality,
    CountDocumentsAsyncTest,
    DeleteAllAsyncTest,
    DeleteByFilterAsyncTest,
    DeleteDocumentsAsyncTest,
    FilterDocumentsAsyncTest,
    UpdateByFilterAsyncTest,
    WriteDocumentsAsyncTest,
):
    """Over a collection only: the asynchronous methods of a store are the others in a thread, whatever the source."""

    @pytest.fixture
    def document_store(self, empty):
        return MmseekDocumentStore(empty)

    async def test_write_documents_async(self, document_store):
        """Without a policy, a document that is there already is refused."""
        document = Document(content="test doc")
        assert await document_store.write_documents_async([document]) == 1
        with pytest.raises(DuplicateDocumentError):
            await document_store.write_documents_async([document])
