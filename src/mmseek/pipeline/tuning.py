"""`tune_collection`: the vector index of a collection, tuned with queries as its encoder makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from mmseek._types import Content, Document
from mmseek.errors import InputError
from mmseek.index.collection import LocalCollection
from mmseek.index.tokens.arrays import mean_of
from mmseek.index.tokens.collection import TokenCollection
from mmseek.pipeline.encoders import AnyEncoder, check_one_vector
from mmseek.protocols import Collection, CollectionInfo, Encoder

if TYPE_CHECKING:
    from mmseek._types import FloatArray

SAMPLE = 256
SMALL_TOKENS = 32_000_000  # numbers that are compared as fast as candidates are found and compared
_WORDS = 12  # of a text that stand for a query


def tune_collection(
    collection: Collection,
    encoder: AnyEncoder | None = None,
    kind: str = "auto",
    *,
    recall: float = 0.95,
    memory: int | None = None,
    queries: Iterable[Content] | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> CollectionInfo:
    """Build the vector index that a collection is searched with from now on.

    Recall is measured with sample queries, encoded as queries: those given, or else pieces of the documents' own texts.
    Where no document has text, and none are given, it is measured with the documents' vectors.

    Args:
        collection: open for writing, and a folder.
        encoder: the one that made the collection; needed except for the kind `exact`.
        kind: `auto`, or one of `mmseek.index.ann.plan.KINDS`.
        recall: the recall@10 to reach.
        memory: bytes that the index may take, for `auto`; None for half of the machine's.
        queries: what people search for; the first 256 are used.
        tell: told what is being done.

    Raises:
        InputError: the collection is no folder, a value is out of range, or a query cannot be encoded.
        StorageError: the disk is full or failing; the index before stays in use.
    """
    if not isinstance(collection, LocalCollection):
        raise InputError("this collection keeps its own index: only that of a folder is tuned")
    asked = _Asked(kind, recall, memory, tell)
    if isinstance(collection, TokenCollection):
        _tune_tokens(collection, encoder, queries, asked)
        return collection.info()
    vectors: FloatArray | None = None
    if kind != "exact" and encoder is not None:
        check_one_vector(encoder)
        contents = _contents(collection, queries)
        if contents and isinstance(encoder, Encoder):
            tell(f"encoding {len(contents)} sample queries")
            vectors = encoder.encode_query(contents)
        else:
            tell("no document has text: recall is measured with the documents, and queries in words may find less")
    collection.ann.tune(kind, recall=recall, memory=memory, queries=vectors, tell=tell)
    return collection.info()


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is wanted, and who is told."""

    kind: str
    recall: float
    memory: int | None
    tell: Callable[[str], None]


def _tune_tokens(
    collection: TokenCollection, encoder: AnyEncoder | None, queries: Iterable[Content] | None, asked: _Asked
) -> None:
    """An index of the means of documents' tokens, and how many candidates of it are needed."""
    info = collection.info()
    small = asked.kind == "auto" and (info.tokens or 0) * info.encoder.dim <= SMALL_TOKENS
    contents = [] if asked.kind == "exact" or small else _contents(collection, queries)
    if not contents or encoder is None:
        collection.ann.tune("exact")
        collection.search_exactly()
        asked.tell("every token of every document is compared")
        return
    if isinstance(encoder, Encoder):
        raise InputError(f"{encoder.identity} is not the encoder of {info.location}: name that one")
    asked.tell(f"encoding {len(contents)} sample queries")
    vectors = encoder.encode_query_tokens(contents)
    means = np.stack([mean_of(tokens) for tokens in vectors])
    collection.ann.tune(asked.kind, recall=asked.recall, memory=asked.memory, queries=means, tell=asked.tell)
    found = collection.tune_tokens(vectors, asked.recall)
    if found is None:
        collection.ann.tune("exact")
        asked.tell(f"no half of the documents holds {asked.recall:.0%} of the ten best: every token is compared")


def _contents(collection: Collection, queries: Iterable[Content] | None) -> Sequence[Content]:
    return list(islice(queries, SAMPLE)) if queries is not None else sample_texts(collection.documents())


def sample_texts(documents: Iterable[Document], count: int = SAMPLE) -> Sequence[Content]:
    """Some words of some of the texts, the same for the same documents: every document is as likely as any other."""
    chance = np.random.default_rng(0)
    kept: list[str] = []
    seen = 0
    for document in documents:
        words = document.content.text.split()
        if not words:
            continue
        seen += 1
        place = len(kept) if len(kept) < count else int(chance.integers(seen))
        if place < count:
            start = int(chance.integers(max(1, len(words) - _WORDS + 1)))
            kept[place : place + 1] = [" ".join(words[start : start + _WORDS])]
    return [Content.of(text) for text in kept]
