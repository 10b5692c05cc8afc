"""What indexes takes no encoder of many vectors an item."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmseek._types import Content, Document, Encoded, EncodeRequest, EncoderIdentity
from mmseek.errors import InputError
from mmseek.pipeline import Retriever, index_corpus
from mmseek.protocols import Collection
from mmseek.testing import FakeEncoder

SENTENCE = "gives a vector for each token and a collection holds one a document"


class ManyVectors:
    @property
    def identity(self) -> EncoderIdentity:
        return EncoderIdentity("many:x", FakeEncoder().identity.fingerprint, 16)

    def encode_query_tokens(self, contents: Sequence[Content], instruction: str | None = None) -> list[np.ndarray]:
        raise NotImplementedError

    def encode_document_tokens(self, contents: Sequence[Content]) -> list[np.ndarray]:
        raise NotImplementedError

    def stream_tokens(self, requests: Iterable[EncodeRequest]) -> Iterator[Encoded]:
        raise NotImplementedError


class BothKinds(FakeEncoder):
    encode_query_tokens = encode_document_tokens = stream_tokens = ManyVectors.stream_tokens


def test_it_is_refused_before_anything_is_made(collection: Collection, tmp_path: Path) -> None:
    many: Any = ManyVectors()
    place = tmp_path / "new"
    with pytest.raises(InputError, match=SENTENCE):
        Retriever.open(place, many, mode="create")
    assert not place.exists()
    with pytest.raises(InputError, match=SENTENCE):
        Retriever(many, collection)
    with pytest.raises(InputError, match=SENTENCE):
        index_corpus([], many, collection)


def test_an_encoder_of_both_kinds_is_taken(collection: Collection) -> None:
    retriever = Retriever(BothKinds(), collection)
    retriever.collection.upsert([Document("a", Content.of("a"))], FakeEncoder().encode_document([Content.of("a")]))
    assert [hit.id for hit in retriever.search("a")] == ["a"]
