"""Comparing two evaluations: significance, tasks, what does not go together; and the tables made of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_rel

from mmseek.errors import DatasetError, InputError
from mmseek.evaluation import Side, compare, evaluate, read_side
from mmseek.evaluation.markdown import comparison_markdown, report_markdown
from mmseek.evaluation.report import PerQuery
from mmseek.testing import FakeEncoder

WriteDataset = Callable[..., Path]


def side(values: Any, tasks: tuple[str | None, ...] | None = None, name: str = "a") -> Side:
    ids = tuple(f"q{number}" for number in range(len(values)))
    queries = PerQuery(ids, tasks or (None,) * len(ids), {"ndcg@10": tuple(map(float, values))})
    return Side(name, "small", "test", "ndcg@10", queries)


def test_p_is_near_that_of_a_paired_t_test() -> None:
    random = np.random.default_rng(3)
    before = random.random(200)
    after = before + random.normal(0.01, 0.1, 200)
    found = compare(side(before), side(after)).overall["ndcg@10"]
    assert found.p == pytest.approx(ttest_rel(after, before).pvalue, abs=0.01)
    assert found.gain == pytest.approx((after - before).mean())
    assert found.low < found.gain < found.high


def test_chance_is_not_significant_and_a_real_gain_is() -> None:
    random = np.random.default_rng(0)
    one = random.integers(0, 2, 400)
    false = [compare(side(one), side(random.permutation(one))).overall["ndcg@10"].significant for _ in range(8)]
    assert sum(false) <= 2
    found = compare(side(one), side(np.maximum(one, random.integers(0, 2, 400))))
    assert found.overall["ndcg@10"].significant
    assert found.wins[1] == 0


def test_nothing_changes_where_nothing_differs() -> None:
    found = compare(side([0.1, 0.7, 0.3]), side([0.1, 0.7, 0.3]))
    assert found.overall["ndcg@10"].p == 1.0
    assert found.wins == (0, 0, 3)
    assert compare(side([0.1]), side([0.9])).overall["ndcg@10"].p == 1.0


def test_several_metrics_are_corrected_by_holm() -> None:
    random = np.random.default_rng(1)
    base = {name: random.random(50) for name in ("ndcg@10", "hit@1", "hit@5")}
    moved = {name: values + random.normal(0.03, 0.08, 50) for name, values in base.items()}
    sides = []
    for values in (base, moved):
        one = side(base["ndcg@10"])
        queries = replace(one.queries, values={name: tuple(each.tolist()) for name, each in values.items()})
        sides.append(replace(one, queries=queries))
    found = compare(*sides).overall
    ordered = sorted(found.values(), key=lambda each: each.p)
    assert ordered[0].p_holm == pytest.approx(min(1.0, 3 * ordered[0].p))
    assert [each.p_holm for each in ordered] == sorted(each.p_holm for each in ordered)


def test_tasks_and_queries_of_one_side_only() -> None:
    first = side([0.0, 0.0, 1.0, 1.0], ("x", "x", "y", None))
    found = compare(first, side([1.0, 1.0, 1.0], ("x", "x", "y")))
    assert {task: group["ndcg@10"].gain for task, group in found.by_task.items()} == {"x": 1.0, "y": 0.0}
    assert found.n_queries == 3
    assert list(found.warnings) == ["1 query of only one of the two left out"]
    json.dumps(found.to_json(), allow_nan=False)
    assert "| x | ndcg@10 | 0.000 | 1.000 |" in comparison_markdown(found)


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="only the same queries can be compared"):
        compare(side([1.0]), replace(side([1.0]), dataset="other"))
    with pytest.raises(DatasetError, match="no query or no metric in common"):
        compare(side([]), side([1.0]))
    path = tmp_path / "r.json"
    with pytest.raises(InputError, match="cannot be read"):
        read_side(path)
    for text in ("not JSON", "[]", "{}", '{"encoder": "a", "dataset": "b", "split": "c", "per_query": {"ids": []}}'):
        path.write_text(text)
        with pytest.raises(InputError, match="is not a report with each query's metrics"):
            read_side(path)
    queries = {"ids": ["a"], "tasks": [None], "values": {"hit@1": [1.0, 0.0]}}
    path.write_text(json.dumps({"encoder": "a", "dataset": "b", "split": "c", "per_query": queries}))
    with pytest.raises(InputError, match="is damaged"):
        read_side(path)


def test_a_report_that_was_written_is_read_back(write_dataset: WriteDataset, tmp_path: Path) -> None:
    corpus = [{"id": f"d{number}", "text": f"t{number}"} for number in range(20)]
    queries = [{"id": f"q{number}", "text": f"t{number}", "metadata": {"task": "a|b"}} for number in range(6)]
    folder = write_dataset(corpus, queries, [(f"q{number}", f"d{number // 2}", 1) for number in range(6)])
    report = evaluate(folder, FakeEncoder(dim=64))
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report.to_json(per_query=True)))
    assert read_side(path) == Side.of(report)
    assert "per_query" not in report.to_json()
    curve = report.overall.curve
    assert {k: curve[k] for k in (1, 5, 10)} == pytest.approx({k: report.metrics[f"recall@{k}"] for k in (1, 5, 10)})
    table = report_markdown(report)
    assert "| a\\|b | 6 |" in table
    assert f"**{report.metrics['ndcg@10']:.3f}**" in table
