"""Mixed queries against numpy, and groups against a plain loop."""

from __future__ import annotations

import numpy as np
import pytest

from mmseek import Content, Document, Query, Retriever, Weighted
from mmseek.errors import InputError
from mmseek.testing import FakeReranker

WORDS = [f"word {n}" for n in range(30)]


@pytest.fixture
def retriever(collection, encoder):
    made = Retriever(encoder, collection)
    made.add(
        Document(f"d{n}", Content.of(text), {"n": n}, f"p{n % 7}" if n % 5 else None) for n, text in enumerate(WORDS)
    )
    return made


def expected(encoder, weights, left_out=()):
    """Ids by the exact inner product with the weighted sum of unit vectors."""
    vectors = encoder.encode_document([Content.of(text) for text in WORDS]).astype(np.float64)
    total = sum(weight * vectors[n] for n, weight in weights.items())
    total = total / np.linalg.norm(total)
    order = [f"d{n}" for n in np.argsort(-(vectors @ total), kind="stable")]
    return [name for name in order if name not in left_out], total


def ids(result):
    return [hit.id for hit in result]


def test_texts_with_weights(retriever, encoder):
    found = retriever.search(
        "word 1", also=[Weighted(Content.of("word 2"), 0.5), Weighted(Content.of("word 3"), -0.3)], k=30
    )
    order, _ = expected(encoder, {1: 1.0, 2: 0.5, 3: -0.3})
    assert ids(found) == order
    assert order[0] == "d1"
    assert order != expected(encoder, {1: 1.0, 2: 0.5})[0]


def test_like_and_unlike(retriever, encoder):
    found = retriever.search(like=["d4", "d5"], unlike=["d6"], k=30)
    order, _ = expected(encoder, {4: 0.5, 5: 0.5, 6: -0.5}, ("d4", "d5", "d6"))
    assert ids(found) == order
    with_text = retriever.search("word 1", like=["d4"], unlike=["d6", "d7"], k=30)
    order, _ = expected(encoder, {1: 1.0, 4: 1.0, 6: -0.25, 7: -0.25}, ("d4", "d6", "d7"))
    assert ids(with_text) == order


def test_only_unlike_gives_what_is_farthest(retriever, encoder):
    order, _ = expected(encoder, {3: -1.0}, ("d3",))
    assert ids(retriever.search(unlike=["d3"], k=30)) == order


def test_a_plain_query_is_as_it_was(retriever):
    plain = retriever.search("word 1", k=5)
    assert plain.hits[0].score == pytest.approx(1.0)
    assert ids(plain) == ids(retriever.search(Query(Content.of("word 1"), k=5)))


def test_in_words_only_what_is_asked_for_counts(retriever):
    also = [Weighted(Content.of("8"), 1.0), Weighted(Content.of("9"), -1.0)]
    found = ids(retriever.search("7", also=also, mode="lexical"))
    assert set(found) == {"d7", "d8"}
    assert ids(retriever.search("7", like=["d1"], mode="hybrid", k=3))[0]


def test_a_reranker_is_given_what_is_asked_for(collection, encoder, retriever):
    reranker = FakeReranker(lambda pair: -len(pair.document.text))
    asked = Retriever(encoder, collection, reranker)
    also = [Weighted(Content.of("word 2"), 1.0), Weighted(Content.of("word 3"), -1.0)]
    assert asked.search("word 1", also=also, k=3).hits
    assert {pair.query.text for pair in reranker.pairs} == {"word 1\nword 2"}
    with pytest.raises(InputError, match="reranker needs"):
        asked.search(like=["d1"])


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"like": ["nobody"]}, "no document 'nobody'"),
        ({"query": "word 1", "unlike": ["nobody"]}, "no document 'nobody'"),
        ({"query": "word 1", "also": [Weighted(Content.of("word 1"), -1.0)]}, "cancel each other"),
        ({"query": "x", "like": ["d1"], "mode": "lexical"}, "compared by vector"),
        ({"query": "x", "group_by": "colour"}, "grouped by parent"),
        ({}, "neither text nor image"),
        ({"query": Query(Content.of("x")), "like": ["d1"]}, "says everything itself"),
        ({"query": Query(Content.of("x")), "group_by": "parent"}, "says everything itself"),
    ],
)
def test_what_is_refused(retriever, wrong, words):
    with pytest.raises(InputError, match=words):
        retriever.search(**wrong)


@pytest.mark.parametrize("weight", [0.0, float("nan"), float("inf")])
def test_a_weight_that_is_none(weight):
    with pytest.raises(InputError, match="weight"):
        Weighted(Content.of("x"), weight)


def test_a_weighted_part_of_nothing():
    with pytest.raises(InputError, match="neither text nor image"):
        Weighted(Content.of(" "), 1.0)


def plain_groups(hits, k):
    best = {}
    for hit in hits:
        best.setdefault(hit.document.parent_id or f"alone {hit.id}", hit.id)
    return list(best.values())[:k]


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
@pytest.mark.parametrize("k", [1, 2, 5, 12, 13, 100])
def test_groups_are_exact(retriever, k, mode):
    everything = retriever.search("word 1", k=100, mode=mode).hits
    found = retriever.search("word 1", k=k, mode=mode, group_by="parent")
    assert ids(found) == plain_groups(everything, k)
    assert [hit.rank for hit in found] == list(range(1, len(found) + 1))


def test_groups_deep_behind_one_large_parent(collection, encoder):
    """The 200 nearest belong to one parent: the search looks as deep as it must."""
    retriever = Retriever(encoder, collection)
    near = encoder.encode_document([Content.of("query")])
    far = encoder.encode_document([Content.of(f"other {n}") for n in range(5)])
    pages = [Document(f"page{n}", Content.of("page"), parent_id="book") for n in range(200)]
    collection.upsert(pages, np.repeat(near, 200, axis=0))
    collection.upsert([Document(f"o{n}", Content.of("o"), parent_id=f"q{n}") for n in range(5)], far)
    found = retriever.search("query", k=4, group_by="parent")
    assert found.hits[0].document.parent_id == "book"
    assert len({hit.document.parent_id for hit in found}) == 4


def test_groups_respect_the_conditions(retriever):
    found = retriever.search("word 1", k=20, group_by="parent", filter="n < 10", exclude=["d1"])
    everything = retriever.search("word 1", k=20, filter="n < 10", exclude=["d1"]).hits
    assert ids(found) == plain_groups(everything, 20)
