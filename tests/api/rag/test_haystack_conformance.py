"""Haystack's own suites for document stores, over a collection and over a service."""

from __future__ import annotations

from dataclasses import replace

import pytest
from haystack import Document
from haystack.document_stores.errors import DuplicateDocumentError
from haystack.testing.document_store import DocumentStoreBaseExtendedTests

from mmseek.api.rag.haystack import MmseekDocumentStore


class TestMmseekDocumentStore(DocumentStoreBaseExtendedTests):
    @pytest.fixture
    def document_store(self, empty_source):
        return MmseekDocumentStore(empty_source)

    def assert_documents_are_equal(self, received, expected):
        """Everything but the embedding, which a collection makes itself; a service gives no order."""
        received = sorted(received, key=lambda document: document.id)
        assert received == sorted((replace(each, embedding=None) for each in expected), key=lambda each: each.id)

    def test_write_documents(self, document_store):
        """Without a policy, a document that is there already is refused."""
        document = Document(content="test doc")
        assert document_store.write_documents([document]) == 1
        with pytest.raises(DuplicateDocumentError):
            document_store.write_documents([document])
        self.assert_documents_are_equal(document_store.filter_documents(), [document])
