"""Sample queries of a collection's own texts."""

from __future__ import annotations

import pytest

from mmseek import Content, Document
from mmseek.errors import InputError
from mmseek.pipeline import tune_collection
from mmseek.pipeline.tuning import SAMPLE, sample_texts


def documents(n):
    return [Document(f"d{i}", Content.of(f"document {i} " + "word " * 30 if i % 2 else " ")) for i in range(n)]


def test_texts_are_pieces_of_all_documents_with_text():
    texts = [content.text for content in sample_texts(documents(4000))]
    assert len(texts) == SAMPLE
    assert all(0 < len(text.split()) <= 12 for text in texts)
    assert [content.text for content in sample_texts(documents(4000))] == texts
    assert len(sample_texts(documents(7))) == 3
    assert sample_texts(documents(1)) == []
    first = sample_texts([Document(f"d{i}", Content.of(str(i))) for i in range(4000)])
    assert sum(int(content.text) < 2000 for content in first) == pytest.approx(SAMPLE / 2, abs=40)


def test_only_a_folder_is_tuned():
    with pytest.raises(InputError, match="folder"):
        tune_collection(object(), None, "hnsw")
