"""`late-interaction` over an encoder made here: MaxSim, the query once, a bad pair alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pytest

import mmseek
from mmseek._types import Content, Encoded, EncodeRequest, EncoderIdentity, Pair, Sent
from mmseek.errors import EncodeError, SpecError
from mmseek.protocols import Explaining
from mmseek.rerank import load_reranker
from mmseek.rerank.late_interaction import LateInteractionReranker


class WordVectors:
    """A vector a word, that the word gives; counts what it encodes."""

    def __init__(self) -> None:
        self.asked: list[EncodeRequest] = []

    @property
    def identity(self) -> EncoderIdentity:
        return EncoderIdentity("words:x", "0" * 64, 8)

    def stream_tokens(self, requests: Iterable[EncodeRequest]) -> Iterator[Encoded]:
        for request in requests:
            self.asked.append(request)
            words = request.content.text.split()
            if "unspeakable" in words:
                yield Encoded(error=EncodeError("told to fail"))
                continue
            yield Encoded(vector=np.stack([_vector(word) for word in words]))

    def encode_query_tokens(self, contents: Sequence[Content], instruction: str | None = None) -> list[np.ndarray]:
        raise NotImplementedError

    def encode_document_tokens(self, contents: Sequence[Content]) -> list[np.ndarray]:
        raise NotImplementedError


def _vector(word: str) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big")
    vector = np.random.default_rng(seed).normal(size=8)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def plain(query: str, document: str) -> float:
    return sum(max(float(_vector(q) @ _vector(d)) for d in document.split()) for q in query.split())


QUERIES = ["a red boat", "the sea"]
DOCUMENTS = ["a boat on the sea", "red", "a street with a dog and a red boat", "sea sea sea"]


def test_scores_are_the_plain_loop() -> None:
    reranker = LateInteractionReranker(WordVectors())
    for query in QUERIES:
        scores = reranker.score(Content.of(query), [Content.of(document) for document in DOCUMENTS])
        assert scores.dtype == np.float32
        np.testing.assert_allclose(scores, [plain(query, document) for document in DOCUMENTS], atol=1e-5)
    assert reranker.score(Content.of("a red boat"), [Content.of("boat red a")])[0] == pytest.approx(3, abs=1e-5)


def test_batches_and_order_change_nothing() -> None:
    pairs = [Pair(Content.of(query), Content.of(document)) for document in DOCUMENTS for query in QUERIES] * 20
    pairs = [pairs[n] for n in np.random.default_rng(0).permutation(len(pairs))]  # more than one window
    scores = [scored.score for scored in LateInteractionReranker(WordVectors()).stream(pairs)]
    single = [next(LateInteractionReranker(WordVectors()).stream([pair])).score for pair in pairs]
    assert scores == single
    np.testing.assert_allclose(scores, [plain(pair.query.text, pair.document.text) for pair in pairs], atol=1e-5)


def test_a_query_is_encoded_once() -> None:
    encoder = WordVectors()
    documents = [Content.of(f"document {number}") for number in range(300)]
    LateInteractionReranker(encoder).score(Content.of("what"), documents)
    assert [request.content.text for request in encoder.asked if request.role == "query"] == ["what"]
    assert len(encoder.asked) == 301


def test_the_instruction_reaches_the_query_only() -> None:
    encoder = WordVectors()
    LateInteractionReranker(encoder).score(Content.of("what"), [Content.of("a")], "find it")
    assert [(request.role, request.instruction) for request in encoder.asked] == [
        ("query", "find it"),
        ("document", None),
    ]


def test_a_bad_pair_fails_alone() -> None:
    reranker = LateInteractionReranker(WordVectors())
    pairs = [
        Pair(Content.of("a"), Content.of("unspeakable")),
        Pair(Content.of("unspeakable"), Content.of("a")),
        Pair(Content.of("a"), Content.of("a")),
    ]
    assert [scored.score is None for scored in reranker.stream(pairs)] == [True, True, False]
    with pytest.raises(EncodeError, match="document 1: told to fail"):
        reranker.score(Content.of("a"), [Content.of("a"), Content.of("unspeakable")])


def test_each_pair_has_its_own_query() -> None:
    """Each pair's own query counts, also where a window holds several."""
    pairs = [Pair(Content.of(f"q{n}"), Content.of(f"d{n}")) for n in range(200)]
    scores = [scored.score for scored in LateInteractionReranker(WordVectors()).stream(pairs)]
    np.testing.assert_allclose(scores, [plain(f"q{n}", f"d{n}") for n in range(200)], atol=1e-5)


def test_what_was_sent_is_the_two_texts_where_the_encoder_does_not_tell() -> None:
    reranker = LateInteractionReranker(WordVectors())
    assert isinstance(reranker, Explaining)
    assert reranker.sent(Pair(Content.of("a red boat"), Content.of("the sea"))) == Sent("a red boat\nthe sea")


def test_what_was_sent_is_what_the_encoder_tells_of_each() -> None:
    class Telling(WordVectors):
        def reads(self, request: EncodeRequest) -> Sent:
            told = f"{request.role}: {request.content.text} ({request.instruction})"
            return Sent(told, (3,), len(request.content.text.split()))

    sent = LateInteractionReranker(Telling()).sent(Pair(Content.of("a red boat"), Content.of("the sea"), "find it"))
    assert sent == Sent("query: a red boat (find it)\ndocument: the sea (None)", (3, 3), 5)


def test_identity() -> None:
    identity = LateInteractionReranker(WordVectors()).identity
    assert identity.spec == "late-interaction:words:x"
    assert identity.fingerprint != WordVectors().identity.fingerprint


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("late-interaction", "write late-interaction:colqwen2:MODEL or late-interaction:colpali:MODEL"),
        ("late-interaction:./folder", "names no encoder after late-interaction"),
        ("late-interaction:mini", "mini gives one vector an item and this needs one for each token"),
        ("late-interaction:colqwen2", "write colqwen2:HUB_ID or colqwen2:FOLDER"),
    ],
)
def test_specs(spec: str, sentence: str) -> None:
    with pytest.raises(SpecError, match=sentence):
        mmseek.load_reranker(spec)


def test_the_room_alone_has_no_encoder() -> None:
    with pytest.raises(SpecError, match=r"late-interaction:colqwen2:x needs its encoder: use mmseek\.load_reranker"):
        load_reranker("late-interaction:colqwen2:x")
