"""What is remembered of a filter is what it says."""

from __future__ import annotations

import numpy as np

from mmseek.index.ann.layered import Base, LayeredIndex
from mmseek.index.ann.masks import Mask, MaskCache
from mmseek.index.ann.plan import plan_for
from mmseek.index.ann.proposer import build
from mmseek.index.ann.sources import ArraySource

ROWS, DIM = 3000, 8


def frozen(rows):
    array = np.array(rows, dtype=np.int64)
    array.flags.writeable = False
    return array


def made(number=ROWS):
    return Mask.of(np.ones(number, dtype=bool))


def test_only_what_cannot_change_is_remembered():
    cache, rows, changing = MaskCache(), frozen([1, 2]), np.array([1, 2])
    assert cache.get(rows, made) is cache.get(rows, made)
    assert cache.get(None, made) is cache.get(None, made)
    assert cache.get(rows, made) is not cache.get(frozen([1, 2]), made)
    assert cache.get(changing, made) is not cache.get(changing, made)
    before = cache.get(rows, made)
    cache.clear()
    assert cache.get(rows, made) is not before


def test_memory_is_bounded():
    size = 8 * 2 + 800 + 100
    cache = MaskCache(most_bytes=3 * size)
    kept = [frozen([n, n + 1]) for n in range(10)]
    masks = [cache.get(rows, lambda: made(800)) for rows in kept]
    assert cache._bytes == 3 * size
    assert [cache.get(rows, lambda: made(800)) is mask for rows, mask in zip(kept[-3:], masks[-3:], strict=True)] == [
        True
    ] * 3
    assert cache.get(kept[0], lambda: made(800)) is not masks[0]
    small = MaskCache(most_bytes=10)
    assert small.get(kept[0], made) is not small.get(kept[0], made)


def test_a_removed_row_is_not_found_by_a_filter_that_was_asked_before(vectors, oracle):
    values, query = vectors(ROWS), vectors(1, seed=1)
    plan = plan_for("ivf-sq8", DIM, ROWS)
    base = Base(np.arange(ROWS), build(plan, DIM, values, [values]), ArraySource(values), plan, 1.0)
    index, stored, allowed = LayeredIndex(DIM, base, few=8), dict(enumerate(values)), frozen(range(0, ROWS, 2))
    for _ in range(20):
        for limits in ({"allowed": allowed}, {}, {"excluded": np.array([0, 2, 4])}):
            given = {name: rows.tolist() for name, rows in limits.items()}
            found = index.search(query, 5, **limits)
            again = index.search(query, 5, **limits)
            assert found[0][0].tolist() == again[0][0].tolist()
            assert set(found[0][0].tolist()) <= set(oracle(stored, query[0], ROWS, **given)[0].tolist())
        best = index.search(query, 5, allowed=allowed)[0][0]
        index.remove(best[:1])
        del stored[int(best[0])]
