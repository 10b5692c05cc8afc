"""`cross-encoder`: the scores of sentence-transformers' own `predict`, for any text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseek._types import Content, Pair
from mmseek.api.server.protocols.relevance import relevance
from mmseek.errors import InputError, ModelError
from mmseek.protocols import Reranker
from mmseek.rerank import load_reranker
from mmseek.rerank.cross_encoder import CrossEncoderReranker

QUERY = "what colour is the boat"
TEXTS = [
    "a red boat",
    "the dog on the street",
    "",
    "blue " * 100,
    "one two three",
    "a",
    "what colour is it",
    "the sea",
    "cat dog cat",
]


@pytest.fixture(scope="module")
def reranker(cross_encoder: Path) -> Reranker:
    return load_reranker(f"cross-encoder:{cross_encoder}", device="cpu")


def contents(texts: list[str]) -> list[Content]:
    return [Content.of(text) for text in texts]


def test_scores_are_those_of_predict(reranker: Reranker, cross_encoder: Path) -> None:
    from sentence_transformers import CrossEncoder

    plain = CrossEncoder(str(cross_encoder), device="cpu").predict(
        [(QUERY, text) for text in TEXTS], batch_size=1, show_progress_bar=False
    )
    scores = reranker.score(Content.of(QUERY), contents(TEXTS))
    assert (scores.dtype, scores.shape) == (np.float32, (len(TEXTS),))
    np.testing.assert_allclose(scores, plain, atol=1e-4)
    assert np.ptp(plain) > 0.01, "a scorer that tells nothing apart would pass"


def test_batch_and_order_change_nothing(reranker: Reranker, monkeypatch: pytest.MonkeyPatch) -> None:
    query = Content.of(QUERY)
    together = reranker.score(query, contents(TEXTS))
    alone = [reranker.score(query, [document])[0] for document in contents(TEXTS)]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(reranker.score(query, contents(TEXTS[::-1])), together[::-1], atol=1e-5)
    monkeypatch.setattr("mmseek.rerank.cross_encoder._CPU_BUDGET", 70)
    np.testing.assert_allclose(reranker.score(query, contents(TEXTS)), together, atol=1e-5)


@settings(max_examples=20)
@given(st.lists(st.text(max_size=30), max_size=6))
def test_any_text_has_one_score(reranker: Reranker, texts: list[str]) -> None:
    scores = reranker.score(Content.of(QUERY), contents(texts))
    assert scores.shape == (len(texts),)
    assert np.isfinite(scores).all()


def test_one_score_a_document_whatever_its_parts(reranker: Reranker) -> None:
    picture = PIL.Image.new("RGB", (8, 8))
    documents = [
        Content.of(picture),
        Content.of(picture, "a red boat", "the sea", picture),
        Content.of("a red boat", "the sea"),
        Content(()),
        Content.of(Path("never-opened.png"), "one"),
    ]
    scores = reranker.score(Content.of(QUERY), documents)
    assert scores.shape == (5,)
    empty = reranker.score(Content.of(QUERY), [Content.of("")])[0]
    assert scores[0] == pytest.approx(empty, abs=1e-5), "pictures alone count as the empty text"
    assert scores[3] == pytest.approx(empty, abs=1e-5)
    assert scores[1] == pytest.approx(scores[2], abs=1e-5), "pictures beside text are passed over"


def test_a_query_without_text_is_refused(reranker: Reranker) -> None:
    picture = Content.of(PIL.Image.new("RGB", (8, 8)))
    with pytest.raises(InputError, match=r"^this reranker reads text only"):
        reranker.score(picture, contents(["a"]))
    outcomes = list(reranker.stream([Pair(picture, Content.of("a")), Pair(Content.of("a"), Content.of("b"))]))
    assert outcomes[0].score is None
    assert outcomes[1].score is not None


def test_identity_is_of_the_files(reranker: Reranker, cross_encoder: Path) -> None:
    assert isinstance(reranker, Reranker)
    assert reranker.identity.spec == f"cross-encoder:{cross_encoder.resolve()}"
    config = cross_encoder / "config.json"
    before = config.read_bytes()
    try:
        config.write_bytes(before + b"\n")
        changed = load_reranker(f"cross-encoder:{cross_encoder}", device="cpu").identity
    finally:
        config.write_bytes(before)
    again = load_reranker(f"cross-encoder:{cross_encoder}", device="cpu").identity
    assert again == reranker.identity
    assert changed.fingerprint != again.fingerprint


def test_pickles_are_never_opened(make_cross_encoder: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match=r"pytorch_model\.bin is a pickle"):
        load_reranker(f"cross-encoder:{make_cross_encoder(safe=False)}", device="cpu")


def test_a_classifier_of_several_labels_is_refused(make_cross_encoder: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match="gives 3 scores a pair"):
        load_reranker(f"cross-encoder:{make_cross_encoder(labels=3)}", device="cpu")


def test_the_scale_is_that_of_the_activation(reranker: Reranker, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(reranker, CrossEncoderReranker)
    scores = reranker.score(Content.of(QUERY), contents(TEXTS))
    assert reranker.scale == "unit"
    monkeypatch.setattr(reranker._model, "activation_fn", torch.nn.Identity())
    assert reranker.scale == "logit"
    logits = reranker.score(Content.of(QUERY), contents(TEXTS))
    np.testing.assert_allclose(relevance(reranker, logits.tolist(), raw=False), scores, atol=1e-6)
    monkeypatch.setattr(reranker._model, "activation_fn", torch.nn.Tanh())
    assert reranker.scale is None
