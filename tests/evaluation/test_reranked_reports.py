"""Reports with a reranker: both orders, a perfect and a constant scorer, what cannot be scored; labelled scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mmseek._types import Pair
from mmseek.errors import EncodeError, InputError
from mmseek.evaluation import evaluate, load_dataset
from mmseek.evaluation.calibrating import labelled_scores
from mmseek.evaluation.metrics import METRICS
from mmseek.testing import FakeEncoder, FakeReranker


def perfect(pair: Pair) -> float:
    return float(pair.document.text == "d" + pair.query.text[1:])


@pytest.fixture
def folder(write_dataset: Callable[..., Path]) -> Path:
    corpus = [{"id": f"d{n}", "text": f"d{n}"} for n in range(60)]
    queries = [{"id": f"q{n}", "text": f"q{n}", "metadata": {"task": str(n % 2)}} for n in range(30)]
    return write_dataset(corpus, queries, [(f"q{n}", f"d{n}", 1) for n in range(30)])


def test_a_perfect_scorer_reaches_1_and_stands_beside_the_first_stage(folder: Path) -> None:
    plain = evaluate(folder, FakeEncoder())
    report = evaluate(folder, FakeEncoder(), reranker=FakeReranker(perfect), rerank_depth=60)
    assert report.reranked is not None
    assert report.metrics == plain.metrics
    assert dict(report.reranked.overall.metrics) == dict.fromkeys(METRICS, 1.0)
    mean, low, high = report.reranked.gain["ndcg@10"]
    assert 0 < low <= mean <= high
    assert mean == pytest.approx(1 - plain.metrics["ndcg@10"])
    document = report.to_json()
    assert document["metrics"]["ndcg@10"] < document["reranked"]["metrics"]["ndcg@10"] == 1.0
    assert set(document["reranked"]["by_task"]) == {"0", "1"}
    assert "reranked" not in plain.to_json()


def test_a_constant_scorer_changes_nothing(folder: Path) -> None:
    report = evaluate(folder, FakeEncoder(), reranker=FakeReranker(lambda _: 0.5), rerank_depth=20)
    assert report.reranked is not None
    assert report.reranked.overall == report.overall
    assert set(report.reranked.gain.values()) == {(0.0, 0.0, 0.0)}


def test_only_the_first_are_scored_and_what_fails_is_told(folder: Path) -> None:
    def judge(pair: Pair) -> float:
        if pair.document.text == "d3":
            raise EncodeError("gone")
        return perfect(pair)

    scorer = FakeReranker(judge)
    report = evaluate(folder, FakeEncoder(), reranker=scorer, rerank_depth=60)
    assert len(scorer.pairs) == 30 * 60
    assert any("30 pairs could not be scored" in warning for warning in report.warnings)
    few = FakeReranker(perfect)
    evaluate(folder, FakeEncoder(), reranker=few, rerank_depth=5)
    assert len(few.pairs) == 30 * 5
    with pytest.raises(InputError, match="at least 1"):
        evaluate(folder, FakeEncoder(), reranker=few, rerank_depth=0)


def test_scores_with_their_labels(folder: Path) -> None:
    relevant, irrelevant = labelled_scores(load_dataset(folder, "test"), FakeEncoder(), FakeReranker(perfect), 60)
    assert (len(relevant), len(irrelevant)) == (30, 30 * 59)
    assert set(relevant.tolist()) == {1.0}
    assert not np.any(irrelevant)
