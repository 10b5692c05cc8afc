"""Whole retrievers: the same figures as the encoder alone where they do the same, and rankings that they alone give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmseek._types import Content
from mmseek.errors import DatasetError, InputError
from mmseek.evaluation import evaluate, evaluate_retriever, index_dataset, load_dataset
from mmseek.pipeline import Retriever
from mmseek.testing import FakeEncoder, FakeReranker

WriteDataset = Callable[..., Path]


@pytest.fixture
def folder(write_dataset: WriteDataset) -> Path:
    corpus = [{"id": f"d{number}", "text": f"text {number}"} for number in range(40)]
    queries: list[Any] = [{"id": f"q{number}", "text": f"text {number}"} for number in range(12)]
    queries[3]["exclude"] = ["d3"]
    queries[4]["candidates"] = ["d4", "d5"]
    return write_dataset([*corpus, "{broken"], queries, [(f"q{n}", f"d{n + n % 2}", 1) for n in range(12)])


@pytest.fixture
def retriever(folder: Path, tmp_path: Path) -> Iterator[Retriever]:
    with Retriever.open(tmp_path / "c", FakeEncoder(dim=64), mode="create") as opened:
        failed = index_dataset(load_dataset(folder), opened)
        assert [problem.reason[-30:] for problem in failed] == [failed[0].reason[-30:]]
        yield opened


def test_a_dense_retriever_scores_as_its_encoder(folder: Path, retriever: Retriever) -> None:
    whole = evaluate_retriever(folder, retriever, details=True)
    alone = evaluate(folder, FakeEncoder(dim=64), details=True)
    assert dict(whole.metrics) == pytest.approx(dict(alone.metrics))
    assert whole.overall.chance == pytest.approx(alone.overall.chance)
    assert (whole.searched, whole.system, alone.searched) == ("dense", "fake, dense", None)
    assert whole.details is not None
    assert alone.details is not None
    ranks = {each.query.id: each.rank for each in alone.details.failures}
    assert {each.query.id: each.rank for each in whole.details.failures} == ranks
    assert set(ranks) == {"q1", "q3", "q5", "q7", "q9", "q11"}
    assert len(alone.details.points) == 12 + 40
    assert set(alone.details.labels) == {"query, text", "document, text"}


def test_words_and_rerankers_are_measured(folder: Path, retriever: Retriever) -> None:
    assert evaluate_retriever(folder, retriever, mode="hybrid").metrics["hit@1"] > 0
    judge = FakeReranker(lambda pair: float(_number(pair.document) - _number(pair.query) == _number(pair.query) % 2))
    with Retriever(retriever.encoder, retriever.collection, judge, 40) as reranking:
        report = evaluate_retriever(folder, reranking)
    assert report.searched == "dense, reranked by fake"
    assert report.metrics["hit@1"] == pytest.approx(1.0)


def _number(content: Content) -> int:
    return int(content.text.split()[1])


def test_equal_scores_count_against_the_relevant(
    write_dataset: WriteDataset, tmp_path: Path, table_encoder: Any
) -> None:
    corpus = [{"id": f"d{number}", "text": f"d{number}"} for number in range(30)]
    folder = write_dataset(corpus, [{"id": "q", "text": "q"}], [("q", "d0", 1)])
    table = {each["text"]: [1.0, 0.0] for each in [*corpus, {"text": "q"}]}

    class Constant(table_encoder):  # type: ignore[misc]
        def encode_query(self, contents: Any, instruction: str | None = None) -> Any:
            return np.array([self.table[content.text] for content in contents], dtype=np.float32)

        encode_document = encode_query

    with Retriever.open(tmp_path / "c", Constant(table, 2), mode="create") as opened:
        index_dataset(load_dataset(folder), opened)
        report = evaluate_retriever(folder, opened)
    assert (report.metrics["hit@1"], report.metrics["mrr@10"], report.tie_rate) == (0.0, 0.0, 1.0)


def test_a_query_that_fails_scores_zero_and_the_rest_go_on(folder: Path, tmp_path: Path) -> None:
    encoder = FakeEncoder(dim=64)
    with Retriever.open(tmp_path / "c", encoder, mode="create") as opened:
        index_dataset(load_dataset(folder), opened)
        encoder.fail_on = "text 8"
        told: list[Any] = []
        report = evaluate_retriever(folder, opened, on_progress=lambda *step: told.append(step))
    assert [problem.id for problem in report.failed_queries] == ["q8"]
    assert told[-1] == ("searching", 12, 12)
    assert any("1 query could not be searched and scores zero: 'q8'" in warning for warning in report.warnings)


def test_a_collection_of_something_else(folder: Path, tmp_path: Path) -> None:
    with Retriever.open(tmp_path / "c", FakeEncoder(), mode="create") as opened:
        with pytest.raises(DatasetError, match="holds no document that small calls relevant"):
            evaluate_retriever(folder, opened)
        with pytest.raises(InputError, match="at least 1, not 0"):
            evaluate_retriever(folder, opened, k=0)
