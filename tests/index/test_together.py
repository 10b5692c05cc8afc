"""Calls that meet are answered together."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mmseek.index.exact import FaissExactIndex
from mmseek.index.together import Together


class Answers:
    """Squares; each call waits for a permit, and its group is noted."""

    def __init__(self):
        self.groups, self.permits, self.entered = [], threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, asked):
        self.groups.append(list(asked))
        self.entered.release()
        assert self.permits.acquire(timeout=120)
        if "bad" in asked:
            raise ValueError("bad")
        return [each**2 for each in asked]


def ask_all(pool, together, asked, waiting):
    """Ask in order, each once the one before waits or runs."""
    futures = []
    for each in asked:
        futures.append(pool.submit(together, each))
        waiting(len(futures))
    return futures


@pytest.fixture
def pool():
    with ThreadPoolExecutor(16) as made:
        yield made


def until(condition):
    gate = threading.Event()
    for _ in range(24_000):
        if condition():
            return
        gate.wait(0.005)
    raise AssertionError


def test_who_comes_while_all_lanes_run_goes_together_and_at_most_so_many(pool):
    answers = Answers()
    together = Together(answers, lanes=2, most=3)
    futures = ask_all(
        pool,
        together,
        range(7),
        lambda count: until(lambda: len(answers.groups) + len(together._waiting) == count),
    )
    assert sorted(answers.groups) == [[0], [1]]
    for _ in range(4):
        answers.permits.release()
    assert [future.result(120) for future in futures] == [0, 1, 4, 9, 16, 25, 36]
    assert sorted(answers.groups) == [[0], [1], [2, 3, 4], [5, 6]]
    answers.permits.release()
    assert together(9) == 81  # nobody holds a lane any more
    assert answers.groups[-1] == [9]


def test_an_error_is_raised_to_those_it_was_for_and_the_lane_goes_on(pool):
    answers = Answers()
    together = Together(answers, lanes=1, most=2)
    futures = ask_all(
        pool,
        together,
        [1, 2, "bad", 3],
        lambda count: until(lambda: len(answers.groups) + len(together._waiting) == count),
    )
    for _ in range(3):
        answers.permits.release()
    assert futures[0].result(120) == 1
    for failed in futures[1:3]:
        with pytest.raises(ValueError, match="bad"):
            failed.result(120)
    assert futures[3].result(120) == 9


def test_searches_of_many_threads_find_what_each_finds_alone(pool):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((3000, 16)).astype(np.float32)
    queries = rng.standard_normal((200, 16)).astype(np.float32)
    index = FaissExactIndex(16)
    index.add(np.arange(3000), vectors)
    for removed in (0, 60, 700):
        index.remove(np.arange(removed))
        scores = vectors[removed:].astype(np.float64) @ queries.T.astype(np.float64)
        expected = removed + np.argsort(-scores, axis=0)[:20]
        found = list(pool.map(lambda n: index.search(queries[n : n + 1], 1 + n % 20), range(len(queries))))
        for number, (rows, values) in enumerate(found):
            k = 1 + number % 20
            assert rows.tolist() == [expected[:k, number].tolist()]
            alone = index.search(queries[number : number + 1], k)
            assert np.array_equal(values, alone[1])
        some = index.search(queries[:7], 5)
        assert some[0].tolist() == expected[:5, :7].T.tolist()
