"""What every `VectorIndex` owes, against an exact numpy search."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmseek.errors import InputError
from mmseek.protocols import VectorIndex

DIM = 8


def compare(index, oracle, stored, queries, k, **filters):
    rows, scores = index.search(queries, k, **{name: np.array(v, dtype=np.int64) for name, v in filters.items()})
    assert rows.shape == scores.shape == (len(queries), k)
    assert rows.dtype == np.int64
    assert scores.dtype == np.float32
    for number, query in enumerate(queries):
        wanted_rows, wanted_scores = oracle(stored, query, k, **filters)
        if hasattr(index, "recall"):
            check_approximate(rows[number], scores[number], oracle(stored, query, len(stored) or 1, **filters), k)
            continue
        np.testing.assert_array_equal(rows[number], wanted_rows)
        np.testing.assert_allclose(scores[number], wanted_scores, rtol=1e-6, atol=1e-6)


def check_approximate(rows, scores, everything, k):
    """As many hits as there can be, all of them allowed, each once, with their true scores, in order."""
    true = {row: score for row, score in zip(*(part.tolist() for part in everything), strict=True) if row >= 0}
    found = rows[rows >= 0].tolist()
    assert len(found) == len(set(found)) == min(k, len(true))
    assert set(found) <= set(true)
    np.testing.assert_allclose(scores[: len(found)], [true[row] for row in found], rtol=1e-6, atol=1e-6)
    assert (scores[len(found) :] == -np.inf).all()
    assert np.lexsort((found, -scores[: len(found)])).tolist() == list(range(len(found)))


def share_found(rows, scores, wanted):
    """Recall; a row with the score of the last one wanted is as good as that."""
    return np.mean(scores >= wanted[1][-1] - 1e-6)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.1])
def test_an_approximate_index_finds_what_it_says(make_index, oracle, vectors, share):
    index, values, queries = make_index(DIM), vectors(3000), vectors(50, seed=1)
    index.add(np.arange(3000), values)
    index.remove(np.arange(0, 3000, 100))
    stored = {row: values[row] for row in range(3000) if row % 100}
    allowed = np.random.default_rng(2).permutation(3000)[: round(3000 * share)]
    rows, scores = index.search(queries, 10, allowed=None if share == 1 else allowed)
    filters = {} if share == 1 else {"allowed": allowed.tolist()}
    found = [share_found(rows[n], scores[n], oracle(stored, query, 10, **filters)) for n, query in enumerate(queries)]
    assert np.mean(found) >= getattr(index, "recall", 1.0)


def test_one_row_in_ten_thousand_is_found(make_index, oracle, vectors):
    index, values = make_index(DIM), vectors(20_000)
    index.add(np.arange(20_000), values)
    allowed = [17, 19_999]
    rows = index.search(vectors(3, seed=1), 2, allowed=np.array(allowed))[0]
    for number, query in enumerate(vectors(3, seed=1)):
        np.testing.assert_array_equal(rows[number], oracle(dict(enumerate(values)), query, 2, allowed=allowed)[0])


def test_it_is_a_vector_index(make_index):
    index = make_index(DIM)
    assert isinstance(index, VectorIndex)
    assert index.dim == DIM
    assert len(index) == 0


@pytest.mark.parametrize("k", [1, 3, 50, 99, 100, 130])
@pytest.mark.parametrize("queries", [1, 3, 40])
def test_search_equals_the_exact_one(make_index, oracle, vectors, k, queries):
    index, values = make_index(DIM), vectors(100)
    index.add(np.arange(100), values)
    compare(index, oracle, dict(enumerate(values)), vectors(queries, seed=1), k)


@pytest.mark.parametrize(
    ("allowed", "excluded"),
    [(0, 0), (1, 40), (60, 1), (60, 2999), (500, 40), (2999, 0), (2999, 2999), (3000, 40)],
)
def test_filters_are_exact_at_any_selectivity(make_index, oracle, vectors, allowed, excluded):
    index, values = make_index(DIM), vectors(3000)
    index.add(np.arange(3000), values)
    rng = np.random.default_rng(allowed + excluded)
    compare(
        index,
        oracle,
        dict(enumerate(values)),
        vectors(2, seed=2),
        10,
        allowed=rng.permutation(3000)[:allowed].tolist(),
        excluded=rng.permutation(3000)[:excluded].tolist(),
    )


def test_unknown_and_repeated_rows_in_filters_are_ignored(make_index, oracle, vectors):
    index, values = make_index(DIM), vectors(20)
    index.add(np.arange(20), values)
    compare(
        index, oracle, dict(enumerate(values)), vectors(1, seed=3), 5, allowed=[3, 3, 99, -1, 7], excluded=[7, 7, 1000]
    )


def test_an_empty_index_finds_nothing(make_index, vectors):
    rows, scores = make_index(DIM).search(vectors(2), 3)
    assert (rows == -1).all()
    assert (scores == -np.inf).all()


def test_removed_rows_are_not_found_and_may_come_back(make_index, oracle, vectors):
    index, values = make_index(DIM), vectors(5000)
    index.add(np.arange(5000), values)
    stored = dict(enumerate(values))
    for start in range(0, 4000, 500):  # enough to make an index drop what is dead
        gone = np.arange(start, start + 500)
        index.remove(gone)
        for row in gone.tolist():
            del stored[row]
        assert len(index) == len(stored)
        compare(index, oracle, stored, vectors(2, seed=start), 10)
    index.remove(np.array([0, 1, 77_777]))
    index.add(np.array([7, 3999]), vectors(2, seed=9))
    stored[7], stored[3999] = vectors(2, seed=9)
    compare(index, oracle, stored, vectors(3, seed=10), 20)


def test_rows_come_in_any_order(make_index, oracle, vectors):
    index, values = make_index(DIM), vectors(300)
    order = np.random.default_rng(0).permutation(300) * 1_000_000_007
    index.add(order[:100], values[:100])
    index.add(order[100:], values[100:])
    stored = dict(zip(order.tolist(), values, strict=True))
    compare(index, oracle, stored, vectors(2, seed=1), 12, allowed=order[50:200].tolist(), excluded=order[::7].tolist())
    index.remove(order[::3])
    compare(index, oracle, {row: stored[row] for row in stored if row not in set(order[::3].tolist())}, vectors(2), 12)


@pytest.mark.parametrize("copies", [2, 30, 700])
def test_equal_scores_are_ordered_by_row(make_index, oracle, vectors, copies):
    values = np.repeat(vectors(5), copies, axis=0)[np.random.default_rng(0).permutation(5 * copies)]
    index = make_index(DIM)
    index.add(np.arange(len(values)), values)
    for k in (1, copies - 1, copies, copies + 1):
        compare(index, oracle, dict(enumerate(values)), vectors(3, seed=1), k)


def test_a_score_does_not_depend_on_how_it_was_found(make_index, vectors):
    index, values, queries = make_index(DIM), vectors(4000), vectors(30, seed=1)
    index.add(np.arange(4000), values)
    rows, scores = index.search(queries, 10)
    for number, query in enumerate(queries):
        alone = index.search(query[None], 10)
        filtered = index.search(query[None], 10, allowed=rows[number])
        deep = index.search(query[None], 3000)
        same = (alone, filtered) if hasattr(index, "recall") else (alone, filtered, deep)
        for found_rows, found_scores in same:
            np.testing.assert_array_equal(found_rows[0, :10], rows[number])
            np.testing.assert_array_equal(found_scores[0, :10], scores[number])


def test_bad_words_are_refused(make_index, vectors):
    index = make_index(DIM)
    index.add(np.arange(3), vectors(3))
    with pytest.raises(InputError, match="at least 1"):
        index.search(vectors(1), 0)
    with pytest.raises(InputError, match="shape"):
        index.search(vectors(1, dim=DIM + 1), 1)
    with pytest.raises(InputError, match="shape"):
        index.add(np.arange(3, 5), vectors(2, dim=DIM - 1))
    with pytest.raises(InputError, match="row numbers"):
        index.add(np.arange(3, 6), vectors(2))
    with pytest.raises(InputError, match="already"):
        index.add(np.array([2]), vectors(1))
    with pytest.raises(InputError, match="already"):
        index.add(np.array([5, 5]), vectors(2))
    assert len(index) == 3


# Small whole numbers give exact scores and many ties.
GRID = st.lists(st.integers(-2, 2), min_size=DIM, max_size=DIM)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_any_sequence_of_changes(make_index, oracle, data):
    index, stored = make_index(DIM), {}
    for _ in range(data.draw(st.integers(1, 5))):
        free = sorted(set(range(60)) - set(stored))
        fresh = data.draw(st.lists(st.sampled_from(free), unique=True, max_size=20)) if free else []
        values = np.array(data.draw(st.lists(GRID, min_size=len(fresh), max_size=len(fresh))), dtype=np.float32)
        index.add(np.array(fresh, dtype=np.int64), values.reshape(-1, DIM))
        stored.update(zip(fresh, values, strict=True))
        gone = data.draw(st.lists(st.integers(0, 60), max_size=10))
        index.remove(np.array(gone, dtype=np.int64))
        stored = {row: value for row, value in stored.items() if row not in gone}
        query = np.array([data.draw(GRID)], dtype=np.float32)
        compare(
            index,
            oracle,
            stored,
            query,
            data.draw(st.integers(1, 70)),
            excluded=data.draw(st.lists(st.integers(0, 60))),
        )
