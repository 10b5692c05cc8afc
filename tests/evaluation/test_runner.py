"""Whole evaluations with encoders whose answers are known: perfect, random, constant, failing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmseek._types import Content, Encoded, EncodeRequest
from mmseek.errors import DatasetError, EncodeError, InputError
from mmseek.evaluation import evaluate, load_dataset
from mmseek.evaluation.metrics import METRICS
from mmseek.testing import FakeEncoder

WriteDataset = Callable[..., Path]
Json = dict[str, Any]


def texts(prefix: str, count: int, **more: object) -> list[Json]:
    return [{"id": f"{prefix}{number}", "text": f"{prefix}{number}", **more} for number in range(count)]


def turned(degrees: float) -> list[float]:
    return [math.cos(math.radians(degrees)), math.sin(math.radians(degrees))]


def test_perfect_encoder_scores_one(write_dataset: WriteDataset, table_encoder: Any) -> None:
    axes = np.eye(120)
    table = {f"{side}{number}": axes[number] for side in "dq" for number in range(120)}
    qrels = [(f"q{number}", f"d{number}", 1) for number in range(120)]
    report = evaluate(write_dataset(texts("d", 120), texts("q", 120), qrels), table_encoder(table, 120))
    assert dict(report.metrics) == dict.fromkeys(METRICS, 1.0)
    assert set(report.overall.confidence.values()) == {(1.0, 1.0)}
    assert (report.n_queries, report.n_documents, report.tie_rate) == (120, 120, 0.0)
    assert report.by_task == {}
    assert report.warnings == []


def test_random_encoder_scores_chance(write_dataset: WriteDataset) -> None:
    qrels = [
        (f"q{number}", f"d{(number * 7 + step) % 130}", 1) for number in range(600) for step in range(number % 3 + 1)
    ]
    report = evaluate(write_dataset(texts("d", 130), texts("q", 600), qrels), FakeEncoder(dim=64))
    for metric in METRICS:
        low, high = report.overall.confidence[metric]
        assert low < high
        assert abs(report.metrics[metric] - report.overall.chance[metric]) < high - low, metric
    assert report.overall.chance["hit@1"] == pytest.approx(2 / 130)
    assert report.tie_rate == 0.0


def test_constant_encoder_does_not_beat_chance(write_dataset: WriteDataset, table_encoder: Any) -> None:
    corpus, queries = texts("d", 150), texts("q", 40)
    vector = np.random.default_rng(0).standard_normal(17)
    table = {item["text"]: vector / np.linalg.norm(vector) for item in corpus + queries}
    qrels = [(f"q{number}", f"d{number}", 1) for number in range(40)]
    report = evaluate(write_dataset(corpus, queries, qrels), table_encoder(table, 17))
    assert dict(report.metrics) == dict.fromkeys(METRICS, 0.0)
    assert all(report.overall.chance[metric] > 0 for metric in METRICS)
    assert report.tie_rate == 1.0


def test_constant_encoder_among_four_candidates(write_dataset: WriteDataset, table_encoder: Any) -> None:
    # The relevant one first in the file, as published benchmarks have it: it must not profit from that.
    corpus = texts("d", 6)
    queries = [{"id": "q0", "text": "q0", "candidates": ["d0", "d1", "d2", "d3"]}]
    table = {item["text"]: [1.0, 0.0] for item in corpus + queries}
    report = evaluate(write_dataset(corpus, queries, [("q0", "d0", 1)]), table_encoder(table, 2))
    assert report.metrics["hit@1"] == 0.0
    assert report.overall.chance["hit@1"] == 0.25
    assert report.metrics["mrr@10"] == 0.25
    assert report.metrics["ndcg@10"] == pytest.approx(1 / math.log2(5))
    assert report.metrics["hit@5"] == report.overall.chance["hit@5"] == pytest.approx(1.0)
    assert report.tie_rate == 1.0


def test_tie_rate_counts_the_queries_that_depend_on_ties(write_dataset: WriteDataset, table_encoder: Any) -> None:
    table = {"d0": turned(10), "d1": turned(10), "d2": turned(80), "q0": turned(0), "q1": turned(90), "q2": turned(5)}
    qrels = [("q0", "d0", 1), ("q1", "d2", 1), ("q2", "d0", 1), ("q2", "d1", 1)]
    report = evaluate(write_dataset(texts("d", 3), texts("q", 3), qrels), table_encoder(table, 2))
    assert report.tie_rate == pytest.approx(1 / 3), "only q0: q1 has no tied positive, q2's ties are all positive"
    assert report.metrics["mrr@10"] == pytest.approx((1 / 2 + 1 + 1) / 3)


def test_excluded_and_candidates(write_dataset: WriteDataset, table_encoder: Any) -> None:
    table = {f"d{number}": turned(10 * number) for number in range(6)} | {"q": turned(0)}
    queries = [
        {"id": "all", "text": "q"},
        {"id": "exclude", "text": "q", "exclude": ["d0", "d2"]},
        {"id": "candidates", "text": "q", "candidates": ["d5", "d3"]},
        {"id": "both", "text": "q", "candidates": ["d3", "d0"], "exclude": ["d0"]},
    ]
    qrels = [(query["id"], "d3", 1) for query in queries]
    for query in queries:
        query["metadata"] = {"task": query["id"]}
    report = evaluate(write_dataset(texts("d", 6), queries, qrels), table_encoder(table, 2))
    ranks = {task: 1 / group.metrics["mrr@10"] for task, group in report.by_task.items()}
    assert ranks == pytest.approx({"all": 4, "exclude": 2, "candidates": 1, "both": 1})
    chances = {task: group.chance["hit@1"] for task, group in report.by_task.items()}
    assert chances == pytest.approx({"all": 1 / 6, "exclude": 1 / 4, "candidates": 1 / 2, "both": 1.0})


def test_a_positive_that_may_not_be_ranked_is_never_found(write_dataset: WriteDataset, table_encoder: Any) -> None:
    table = {"d0": turned(0), "d1": turned(10), "q0": turned(0), "q1": turned(0)}
    queries = [{"id": "q0", "text": "q0", "exclude": ["d0"]}, {"id": "q1", "text": "q1", "candidates": ["d1"]}]
    folder = write_dataset(texts("d", 2), queries, [("q0", "d0", 1), ("q1", "d0", 1)])
    report = evaluate(folder, table_encoder(table, 2))
    assert dict(report.metrics) == dict.fromkeys(METRICS, 0.0)
    assert dict(report.overall.chance) == dict.fromkeys(METRICS, 0.0)
    assert "a document that is relevant: 'q0', 'q1'" in "".join(report.warnings)


def test_tasks_are_means_of_their_own_queries(write_dataset: WriteDataset) -> None:
    queries = [*texts("a", 3, metadata={"task": "one"}), *texts("b", 5, metadata={"task": "two"}), *texts("c", 2)]
    qrels = [(query["id"], f"d{place}", 1) for place, query in enumerate(queries)]
    report = evaluate(write_dataset(texts("d", 30), queries, qrels), FakeEncoder())
    assert {task: group.n_queries for task, group in report.by_task.items()} == {"(no task)": 2, "one": 3, "two": 5}
    for metric in METRICS:
        total = sum(group.n_queries * group.metrics[metric] for group in report.by_task.values())
        assert report.metrics[metric] == pytest.approx(total / 10)


def test_graded_relevance(write_dataset: WriteDataset, table_encoder: Any) -> None:
    table = {"d0": turned(0), "d1": turned(10), "q0": turned(0)}
    folder = write_dataset(texts("d", 2), texts("q", 1), [("q0", "d0", 1), ("q0", "d1", 3)])
    report = evaluate(folder, table_encoder(table, 2))
    assert report.metrics["ndcg@10"] == pytest.approx((1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3)))


def test_documents_that_fail_are_named_and_never_found(write_dataset: WriteDataset, table_encoder: Any) -> None:
    corpus = [*texts("d", 3), "{broken", {"id": "blind", "text": "blind"}, {"id": "d0", "text": "again"}]
    table = {"d0": turned(0), "d1": turned(10), "d2": turned(20), "q0": turned(0), "q1": turned(20)}
    qrels = [("q0", "blind", 1), ("q0", "d0", 1), ("q1", "d2", 1)]
    report = evaluate(write_dataset(corpus, texts("q", 2), qrels), table_encoder(table, 2))
    assert report.n_documents == 3
    assert report.metrics["recall@10"] == pytest.approx((0.5 + 1) / 2)
    assert report.metrics["hit@1"] == 1.0
    assert {problem.id for problem in report.failed_corpus} == {None, "d0", "blind"}
    assert any("corpus.jsonl:4" in problem.reason for problem in report.failed_corpus)
    assert any("no vector for this text" in problem.reason for problem in report.failed_corpus)
    assert "3 documents could not be used and are never found, relevant to 1 query" in "".join(report.warnings)


def test_queries_that_fail_are_named_and_score_zero(write_dataset: WriteDataset, table_encoder: Any) -> None:
    table = {"d0": turned(0), "d1": turned(10), "q0": turned(0), "q2": turned(10)}
    qrels = [("q0", "d0", 1), ("q1", "d0", 1), ("q2", "d1", 1)]
    report = evaluate(write_dataset(texts("d", 2), texts("q", 3), qrels), table_encoder(table, 2))
    assert report.n_queries == 3
    assert report.metrics["hit@1"] == pytest.approx(2 / 3)
    assert [problem.id for problem in report.failed_queries] == ["q1"]
    assert "1 query could not be encoded and scores zero: 'q1'" in report.warnings


def test_every_query_fails(write_dataset: WriteDataset, table_encoder: Any) -> None:
    folder = write_dataset(texts("d", 2), texts("q", 2), [("q0", "d0", 1), ("q1", "d1", 1)])
    report = evaluate(folder, table_encoder({"d0": turned(0), "d1": turned(10)}, 2))
    assert dict(report.metrics) == dict.fromkeys(METRICS, 0.0)
    assert len(report.failed_queries) == 2


def test_every_document_fails(write_dataset: WriteDataset, table_encoder: Any) -> None:
    folder = write_dataset(texts("d", 2), texts("q", 1), [("q0", "d0", 1)])
    with pytest.raises(EncodeError, match=r"no document of .* could be encoded: no vector for this text"):
        evaluate(folder, table_encoder({"q0": turned(0)}, 2))


def test_a_vector_that_is_not_finite_is_a_failure(write_dataset: WriteDataset, table_encoder: Any) -> None:
    table = {"d0": turned(0), "d1": [math.nan, 0.0], "q0": turned(0)}
    report = evaluate(write_dataset(texts("d", 2), texts("q", 1), [("q0", "d0", 1)]), table_encoder(table, 2))
    assert [(problem.id, "not finite" in problem.reason) for problem in report.failed_corpus] == [("d1", True)]


def test_a_vector_of_another_length_ends_it(write_dataset: WriteDataset, table_encoder: Any) -> None:
    table = {"d0": turned(0), "d1": [1.0, 0.0, 0.0], "q0": turned(0)}
    with pytest.raises(EncodeError, match=r"shape \(3,\) where \(2,\)"):
        evaluate(write_dataset(texts("d", 2), texts("q", 1), [("q0", "d0", 1)]), table_encoder(table, 2))


@pytest.mark.parametrize(("change", "said"), [(-1, "gave no outcome for 1 items"), (1, "gave more vectors than")])
def test_an_encoder_that_loses_or_invents_items(
    write_dataset: WriteDataset, monkeypatch: pytest.MonkeyPatch, change: int, said: str
) -> None:
    class Careless(FakeEncoder):
        def stream(self, requests: Iterable[EncodeRequest]) -> Iterator[Encoded]:
            outcomes = list(super().stream(requests))
            yield from outcomes[:change] if change < 0 else [*outcomes, *outcomes[:change]]

    with pytest.raises(EncodeError, match=said):
        evaluate(write_dataset(texts("d", 3), texts("q", 2), [("q0", "d0", 1), ("q1", "d1", 1)]), Careless())


def test_the_encoder_is_asked_for_the_right_side(write_dataset: WriteDataset, table_encoder: Any) -> None:
    encoder = table_encoder({"d0": turned(0), "q0": turned(0)}, 2)
    queries = [{"id": "q0", "text": "q0", "instruction": "find the page"}]
    evaluate(write_dataset(texts("d", 1), queries, [("q0", "d0", 1)]), encoder)
    assert encoder.requests == [
        EncodeRequest(Content.of("q0"), "query", "find the page"),
        EncodeRequest(Content.of("d0"), "document", None),
    ]


def test_same_input_same_numbers(write_dataset: WriteDataset) -> None:
    qrels = [(f"q{number}", f"d{number}", 1) for number in range(20)]
    folder = write_dataset(texts("d", 200), texts("q", 20, metadata={"task": "t"}), qrels)
    first, second = (evaluate(folder, FakeEncoder()).to_json() for _ in range(2))
    assert first == second
    assert evaluate(load_dataset(folder), FakeEncoder(window=3)).to_json() == first


def test_json_has_the_promised_keys(write_dataset: WriteDataset) -> None:
    queries = texts("q", 2, metadata={"task": "text->text"})
    folder = write_dataset(texts("d", 2), queries, [("q0", "d0", 1), ("gone", "d1", 1)])
    report = json.loads(json.dumps(evaluate(folder, FakeEncoder(fail_on="d1")).to_json(), allow_nan=False))
    assert (report["dataset"], report["split"], report["encoder"], report["n_queries"]) == ("small", "test", "fake", 1)
    assert list(report["metrics"]) == list(METRICS) == list(report["confidence"]) == list(report["chance"])
    assert all(len(interval) == 2 for interval in report["confidence"].values())
    keys = {"n_queries", "metrics", "confidence", "chance", "tie_rate", "recall_curve"}
    assert set(report["by_task"]["text->text"]) == keys
    assert report["tie_rate"] == 0.0
    assert [problem["id"] for problem in report["skipped"]["queries"]] == ["gone"]
    assert [problem["id"] for problem in report["failed"]["corpus"]] == ["d1"]
    assert report["failed"]["queries"] == []
    assert len(report["warnings"]) == 2


def test_a_shallow_ranking_leaves_deep_metrics_out(write_dataset: WriteDataset) -> None:
    folder = write_dataset(texts("d", 30), texts("q", 1), [("q0", "d0", 1)])
    report = evaluate(folder, FakeEncoder(), k=5)
    assert list(report.metrics) == ["ndcg@5", "recall@1", "recall@5", "hit@1", "hit@5"]
    deep = evaluate(folder, FakeEncoder())
    assert all(report.metrics[metric] == deep.metrics[metric] for metric in report.metrics)
    with pytest.raises(InputError, match="at least 1, not 0"):
        evaluate(folder, FakeEncoder(), k=0)


def test_split_of_a_loaded_dataset(write_dataset: WriteDataset) -> None:
    folder = write_dataset(texts("d", 3), texts("q", 1), [("q0", "d0", 1)], split="dev")
    dataset = load_dataset(folder, "dev")
    assert evaluate(dataset, FakeEncoder()).split == "dev"
    assert evaluate(folder, FakeEncoder(), split="dev").split == "dev"
    with pytest.raises(InputError, match="loaded with the split 'dev', not 'test'"):
        evaluate(dataset, FakeEncoder(), split="test")


def test_progress_is_told(write_dataset: WriteDataset) -> None:
    told: list[tuple[str, int, int]] = []
    folder = write_dataset([*texts("d", 3), "{broken"], texts("q", 2), [("q0", "d0", 1), ("q1", "d1", 1)])
    evaluate(folder, FakeEncoder(), on_progress=lambda *step: told.append(step))
    assert told[:2] == [("queries", 1, 2), ("queries", 2, 2)]
    assert [step for step in told if step[0] == "corpus"][-1] == ("corpus", 4, 4)
    assert told[-1] == ("ranking", 2, 2)


def test_a_corpus_that_grows_meanwhile(write_dataset: WriteDataset) -> None:
    folder = write_dataset(texts("d", 3), texts("q", 1), [("q0", "d0", 1)])
    dataset = load_dataset(folder)
    write_dataset(texts("d", 4), texts("q", 1), [("q0", "d0", 1)])
    with pytest.raises(DatasetError, match="grew while it was read"):
        evaluate(dataset, FakeEncoder())
