"""Metrics against their plain definitions, chance formulas against random orders, the bootstrap against theory."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import threading

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseek.evaluation.metrics import METRICS, bootstrap, chance, cutoff, per_query
from mmseek.evaluation.ranking import Pool, rank


def plain(metric: str, grades: dict[int, int], ranked: list[int]) -> float:
    """One metric of one query, by its definition."""
    name, _, text = metric.partition("@")
    first = ranked[: int(text)]
    hits = [place for place, row in enumerate(first) if row in grades]
    if name == "recall":
        return len(hits) / len(grades)
    if name == "hit":
        return float(bool(hits))
    if name == "mrr":
        return 1 / (hits[0] + 1) if hits else 0.0
    gain = sum(grades[first[place]] / math.log2(place + 2) for place in hits)
    best = sum(grade / math.log2(place + 2) for place, grade in enumerate(sorted(grades.values())[::-1][: int(text)]))
    return gain / best


def measured(cases: list[tuple[dict[int, int], list[int]]], metrics: tuple[str, ...] = METRICS) -> np.ndarray:
    return per_query(
        [np.array(list(grades)) for grades, _ in cases],
        [np.array(list(grades.values())) for grades, _ in cases],
        [np.array(ranked, dtype=np.int64) for _, ranked in cases],
        metrics,
    )


GRADES = st.dictionaries(st.integers(-3, 30), st.integers(1, 4), min_size=1, max_size=8)
CASES = st.lists(
    st.tuples(GRADES, st.permutations(range(30)).flatmap(lambda p: st.integers(0, 30).map(lambda n: p[:n])))
)


@given(CASES)
def test_equal_to_the_plain_definitions(cases: list[tuple[dict[int, int], list[int]]]) -> None:
    expected = [[plain(metric, *case) for metric in METRICS] for case in cases]
    assert measured(cases) == pytest.approx(np.array(expected).reshape(len(cases), len(METRICS)), abs=1e-12)


def test_known_values() -> None:
    cases = [({7: 1, 9: 1}, [1, 7, 2, 3, 4, 5, 6, 9])]
    found = dict(zip(METRICS, measured(cases)[0], strict=True))
    ideal = 1 + 1 / math.log2(3)
    assert found["ndcg@10"] == pytest.approx((1 / math.log2(3) + 1 / math.log2(9)) / ideal)
    assert (found["recall@1"], found["recall@5"], found["recall@10"], found["recall@100"]) == (0, 0.5, 1, 1)
    assert (found["hit@1"], found["hit@5"], found["hit@10"], found["mrr@10"]) == (0, 1, 1, 0.5)


def test_recall_and_hit_are_two_things() -> None:
    found = dict(zip(METRICS, measured([({1: 1, 2: 1, 3: 1, 4: 1}, [1])])[0], strict=True))
    assert (found["hit@10"], found["recall@10"]) == (1.0, 0.25)


def test_a_single_metric() -> None:
    assert measured([({1: 1}, [1])], ("mrr@10",)).tolist() == [[1.0]]


def test_numbers_of_documents_are_never_confused() -> None:
    # ranx keeps ids as floats: whole numbers are exact in them, far beyond any row of a corpus.
    rows = 2**40 + np.arange(200)
    found = per_query([rows[-1:]], [np.array([1])], [rows[:-1]])
    assert not found.any()


def test_two_threads_measure_at_once() -> None:
    cases = [({place: 1}, list(range(100))) for place in range(20)]
    expected = measured(cases)
    found: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: found.append(measured(cases))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(np.array_equal(one, expected) for one in found)


def test_ranx_is_loaded_by_measuring_only() -> None:
    code = "import sys, mmseek.evaluation; sys.exit(any(name in sys.modules for name in ('ranx', 'numba', 'torch')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("relevant", "absent", "size"), [(1, 0, 4), (2, 0, 4), (1, 0, 150), (3, 1, 150), (5, 0, 12)])
def test_chance_is_what_random_orders_score(relevant: int, absent: int, size: int) -> None:
    random = np.random.default_rng(0)
    grades = {row: 1 + row % 3 for row in range(relevant)} | {-1 - row: 1 for row in range(absent)}
    scores = np.array(
        [
            [plain(metric, grades, order) for metric in METRICS]
            for order in (random.permutation(size).tolist() for _ in range(4000))
        ]
    )
    gains, present = np.array(list(grades.values())), np.array([row >= 0 for row in grades])
    expected = chance([gains], [present], [size])[0]
    error = scores.std(axis=0) / math.sqrt(len(scores))
    assert np.all(np.abs(scores.mean(axis=0) - expected) <= 4 * error + 1e-12)


def test_chance_is_exact_in_a_small_pool() -> None:
    grades = {0: 2, 1: 1, -1: 1}
    orders = list(itertools.permutations(range(5)))
    expected = np.mean([[plain(metric, grades, list(order)) for metric in METRICS] for order in orders], axis=0)
    found = chance([np.array([2, 1, 1])], [np.array([True, True, False])], [5])[0]
    assert found == pytest.approx(expected)


def test_chance_of_an_empty_pool() -> None:
    assert not chance([np.array([1])], [np.array([False])], [0]).any()


def test_bootstrap_has_the_width_that_theory_gives() -> None:
    values = (np.arange(400) < 120).astype(float)[:, None]
    (low,), (high,) = bootstrap(values)
    half = 1.96 * math.sqrt(0.3 * 0.7 / 400)
    assert low == pytest.approx(0.3 - half, abs=0.1 * half)
    assert high == pytest.approx(0.3 + half, abs=0.1 * half)


def test_bootstrap_resamples_whole_queries() -> None:
    # Two columns that sum to one for each query do so in every resample: their intervals mirror each other.
    first = np.random.default_rng(1).random(50)
    low, high = bootstrap(np.column_stack((first, 1 - first)))
    assert low[0] == pytest.approx(1 - high[1])
    assert high[0] == pytest.approx(1 - low[1])


def test_bootstrap_is_repeatable_and_sane_at_the_edges() -> None:
    values = np.random.default_rng(2).random((30, 3))
    assert np.array_equal(bootstrap(values), bootstrap(values))
    assert not np.array_equal(bootstrap(values), bootstrap(values, seed=1))
    assert bootstrap(np.array([[0.4]])).tolist() == [[0.4], [0.4]]
    assert bootstrap(np.ones((7, 1))).tolist() == [[1.0], [1.0]]


def test_cutoffs() -> None:
    assert [cutoff(metric) for metric in METRICS] == [5, 10, 1, 5, 10, 100, 1, 5, 10, 10]


SMALL = st.integers(1, 5).flatmap(
    lambda size: st.tuples(
        st.lists(st.integers(0, 2), min_size=size, max_size=size),  # scores, with many ties
        st.dictionaries(st.integers(0, size - 1), st.integers(1, 2), max_size=size),  # grades
        st.sets(st.integers(0, size - 1)),  # excluded
        st.none() | st.sets(st.integers(0, size - 1)),  # candidates
        st.integers(1, 6),  # k
    )
)


@given(SMALL)
def test_ranking_equals_trying_every_order(
    case: tuple[list[int], dict[int, int], set[int], set[int] | None, int],
) -> None:
    scores, grades, excluded, candidates, k = case
    pool_rows = [row for row in range(len(scores)) if row not in excluded and (candidates is None or row in candidates)]
    allowed = [
        order
        for order in itertools.permutations(pool_rows)
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    prefixes = {tuple(grades.get(row, 0) for row in order[:k]) for order in allowed}
    pool = Pool(
        relevant=np.array(list(grades), dtype=np.int64),
        grades=np.array(list(grades.values()), dtype=np.int64),
        excluded=np.array(sorted(excluded), dtype=np.int64),
        candidates=None if candidates is None else np.array(sorted(candidates), dtype=np.int64),
    )
    documents = np.array(scores, dtype=np.float32)[:, None]
    (ranked,) = rank(np.ones((1, 1), dtype=np.float32), documents, [pool], k)
    assert tuple(ranked.rows) in {order[:k] for order in allowed}
    assert ranked.tied == (len(prefixes) > 1)
    assert tuple(grades.get(int(row), 0) for row in ranked.rows) == min(prefixes), "ties count against the relevant"
    assert pool.count(len(scores)) == len(pool_rows)
    assert pool.rows(len(scores)).tolist() == pool_rows
    assert pool.holds(np.arange(len(scores))).nonzero()[0].tolist() == pool_rows


@pytest.mark.parametrize("dim", [3, 16, 67])
def test_equal_vectors_tie_wherever_they_stand(dim: int) -> None:
    # In float32 the edge of a matrix product is summed in another order than its middle, and equal vectors differ.
    random = np.random.default_rng(dim)
    vector = random.standard_normal(dim)
    for size in range(1, 80, 3):
        documents = np.tile((vector / np.linalg.norm(vector)).astype(np.float32), (size, 1))
        queries = random.standard_normal((5, dim)).astype(np.float32)
        pool = Pool(np.array([size - 1]), np.array([1]), np.empty(0, dtype=np.int64))
        for ranked in rank(queries, documents, [pool] * 5, 100):
            assert ranked.rows.tolist() == list(range(size))
            assert ranked.tied == (size > 1)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    queries, documents = (random.standard_normal((n, 8)).astype(np.float32) for n in (23, 301))
    pool = Pool(np.array([5, 90]), np.array([1, 2]), np.array([7]))
    whole = list(rank(queries, documents, [pool] * 23, 50))
    monkeypatch.setattr("mmseek.evaluation.ranking._SCORES_AT_ONCE", 301 * 4)
    monkeypatch.setattr("mmseek.evaluation.ranking._NUMBERS_AT_ONCE", 8 * 64)
    blocks = list(rank(queries, documents, [pool] * 23, 50))
    assert [one.rows.tolist() for one in whole] == [one.rows.tolist() for one in blocks]
    plain_order = np.argsort(-(queries.astype(float) @ documents.T.astype(float)), axis=1, kind="stable")
    for ranked, order in zip(whole, plain_order, strict=True):
        assert ranked.rows.tolist() == [row for row in order.tolist() if row != 7][:50]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_pytrec_eval_says_the_same_of_runs_without_ties(seed: int) -> None:
    random = np.random.default_rng(seed)
    relevant, grades, ranked = [], [], []
    for _ in range(5):
        order = random.permutation(30)
        relevant.append(order[: random.integers(1, 8)].astype(np.int64))
        grades.append(random.integers(1, 4, len(relevant[-1])).astype(np.int64))
        ranked.append(random.permutation(30)[: random.integers(1, 31)].astype(np.int64))
    ours = per_query(relevant, grades, ranked, METRICS)
    qrels = {
        str(query): {str(row): int(grade) for row, grade in zip(rows, gains, strict=True)}
        for query, (rows, gains) in enumerate(zip(relevant, grades, strict=True))
    }
    run = {
        str(query): {str(row): float(len(rows) - place) for place, row in enumerate(rows)}
        for query, rows in enumerate(ranked)
    }
    asked = {"ndcg_cut.5,10", "recall.1,5,10,100", "success.1,5,10", "recip_rank"}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, asked).evaluate(run)
    names = {"ndcg": "ndcg_cut_", "recall": "recall_", "hit": "success_"}
    for query in range(5):
        for column, metric in enumerate(METRICS):
            kind, _, depth = metric.partition("@")
            if kind == "mrr":
                whole = theirs[str(query)]["recip_rank"]
                expected = whole if whole >= 1 / int(depth) - 1e-9 else 0.0
            else:
                expected = theirs[str(query)][names[kind] + depth]
            assert ours[query, column] == pytest.approx(expected, abs=1e-6), metric
