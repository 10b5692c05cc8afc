"""Many queries at a time give what each gives alone."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from mmseek import EncoderIdentity
from mmseek.errors import InputError
from mmseek.index import open_collection
from mmseek.index.ann.plan import APPROXIMATE


def assert_as_alone(collection, queries, k, **limits):
    found = collection.search_many(queries, k, **limits)
    assert found == [collection.search(query, k, **limits) for query in queries]
    return found


def test_it_is_what_each_gives_alone(collection, documents, vectors):
    collection.upsert(documents(range(60)), vectors(60))
    queries = vectors(7, seed=1)
    found = assert_as_alone(collection, queries, 5)
    assert [len(hits) for hits in found] == [5] * 7
    assert_as_alone(collection, list(queries), 100)
    assert_as_alone(collection, queries[:1], 5, exclude=[found[0][0].id])
    assert_as_alone(collection, queries, 5, candidates={"d1", "d2", "unknown"})
    assert_as_alone(collection, queries, 5, filter="n < 9")
    assert assert_as_alone(collection, queries, 5, filter="n > 99") == [[]] * 7
    assert collection.search_many([], 5) == []


def test_what_is_wrong_with_one_is_said(collection, documents, vectors):
    collection.upsert(documents(range(3)), vectors(3))
    with pytest.raises(InputError, match="a query vector is 8 finite numbers"):
        collection.search_many([vectors(1)[0], np.zeros(5)], 3)
    with pytest.raises(InputError, match="at least 1"):
        collection.search_many(vectors(2), 0)
    with pytest.raises(InputError):
        collection.search_many(vectors(2), 3, filter="n ==")


@pytest.mark.parametrize("kind", APPROXIMATE)
def test_a_stored_index_gives_each_the_same(tmp_path, identity, documents, vectors, kind):
    """With rows that came since it was built, and without; the ranks of equal scores, too."""
    with closing(open_collection(tmp_path / "c", mode="create", encoder=identity)) as collection:
        collection.upsert(documents(range(2000)), vectors(2000))
        queries = vectors(50, seed=3)
        collection.ann.tune(kind, queries=queries)
        assert_as_alone(collection, queries, 10)
        assert_as_alone(collection, queries, 10, filter="n < 1500")
        collection.upsert(documents(range(1990, 2010)), vectors(20, seed=4))
        assert_as_alone(collection, queries, 10)


def test_a_vector_for_each_token(tmp_path, documents):
    identity = EncoderIdentity("colqwen2", "f" * 64, 4, multi_vector=True)
    rng = np.random.default_rng(0)
    tokens = [rng.standard_normal((1 + n % 3, 4)).astype(np.float32) for n in range(30)]
    with closing(open_collection(tmp_path / "c", mode="create", encoder=identity)) as collection:
        collection.upsert(documents(range(30)), tokens)
        assert_as_alone(collection, tokens[:5], 4)
        assert_as_alone(collection, tokens[:5], 4, exclude=["d1"], filter="n < 20")
