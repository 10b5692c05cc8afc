"""Search by vector, in words, and by both."""

from __future__ import annotations

import pytest

from mmseek import Content, Document, Hit, Query
from mmseek.errors import InputError
from mmseek.index import open_collection
from mmseek.pipeline import Retriever
from mmseek.pipeline.hybrid import fuse, reciprocal_ranks, weighted_scores
from mmseek.testing import FakeEncoder


def hits(kind, **scores):
    return [
        Hit(rank, name, score, {kind: score}, Document(name, Content.of(name)))
        for rank, (name, score) in enumerate(scores.items(), start=1)
    ]


DENSE = hits("dense", a=0.9, b=0.8, c=0.4)
LEXICAL = hits("lexical", c=12.0, d=7.0, a=2.0)


def test_reciprocal_ranks():
    assert reciprocal_ranks(DENSE, LEXICAL) == pytest.approx(
        {"a": 1 / 61 + 1 / 63, "b": 1 / 62, "c": 1 / 63 + 1 / 61, "d": 1 / 62}
    )


def test_weighted_scores():
    assert weighted_scores(DENSE, LEXICAL, dense_weight=0.3) == pytest.approx(
        {"a": 0.3 + 0.7 * 2 / 12, "b": 0.3 * 0.8, "c": 0.7, "d": 0.7 * 7 / 12}
    )
    assert weighted_scores([], []) == {}
    assert weighted_scores(hits("dense", a=0.5), [], dense_weight=0.3) == {"a": 0.3}
    assert weighted_scores([], hits("lexical", a=0.5), dense_weight=0.3) == {"a": 0.7}


@pytest.mark.parametrize(("fusion", "order"), [(reciprocal_ranks, "acbd"), (weighted_scores, "cadb")])
def test_fused_hits(fusion, order):
    fused = fuse(DENSE, LEXICAL, 10, fusion)
    assert "".join(hit.id for hit in fused) == order  # equal scores: by the dense rank
    assert [hit.rank for hit in fused] == [1, 2, 3, 4]
    assert [hit.score for hit in fused] == pytest.approx([fusion(DENSE, LEXICAL)[name] for name in order])
    parts = {hit.id: hit.scores for hit in fused}
    assert parts["a"] == {"dense": 0.9, "lexical": 2.0}
    assert parts["d"] == {"lexical": 7.0}
    assert fuse(DENSE, LEXICAL, 2, fusion) == fused[:2]


@pytest.fixture
def retriever(tmp_path):
    encoder = FakeEncoder()
    collection = open_collection(tmp_path / "c", mode="create", encoder=encoder.identity)
    with Retriever(encoder, collection) as made:
        made.add(
            [
                Document("exact", Content.of("red bicycle"), {"year": 2020}),
                Document("near", Content.of("a bicycle that is red"), {"year": 2021}),
                Document("other", Content.of("sea"), {"year": 2022}),
            ]
        )
        yield made


def test_modes(retriever):
    dense = retriever.search("red bicycle")
    assert dense.hits[0].id == "exact"
    assert {tuple(hit.scores) for hit in dense} == {("dense",)}
    calls = retriever.encoder.calls
    lexical = retriever.search("red bicycle", mode="lexical")
    assert retriever.encoder.calls == calls  # no vector is needed
    assert {hit.id for hit in lexical} == {"exact", "near"}
    assert {tuple(hit.scores) for hit in lexical} == {("lexical",)}
    hybrid = retriever.search("red bicycle", mode="hybrid")
    assert hybrid.hits[0].id == "exact"
    assert set(hybrid.hits[0].scores) == {"dense", "lexical"}
    assert {hit.id for hit in hybrid} == {"exact", "near", "other"}
    assert len(retriever.search("red bicycle", mode="hybrid", k=1)) == 1
    assert set(hybrid.timings) == {"encode", "search"}


def test_filters_in_every_mode(retriever):
    for mode in ("dense", "lexical", "hybrid"):
        found = retriever.search("red bicycle", mode=mode, filter="year > 2020 and id != 'other'")
        assert [hit.id for hit in found] == ["near"]
        with pytest.raises(InputError, match="column 6"):
            retriever.search("red bicycle", mode=mode, filter="year = 2020")
    query = Query(Content.of("red"), mode="lexical", filter="year == 2020")
    assert [hit.id for hit in retriever.search(query)] == ["exact"]


def test_without_words_the_search_is_dense(retriever, tmp_path):
    from PIL import Image

    Image.new("RGB", (8, 8), "red").save(tmp_path / "p.png")
    for mode in ("lexical", "hybrid"):
        found = retriever.search(image=tmp_path / "p.png", mode=mode)
        assert {tuple(hit.scores) for hit in found} == {("dense",)}
        assert len(found) == 3


def test_an_unknown_mode_is_refused(retriever):
    with pytest.raises(InputError, match="dense, lexical or hybrid"):
        retriever.search("x", mode="sparse")
    with pytest.raises(InputError, match="says everything itself"):
        retriever.search(Query(Content.of("x")), mode="hybrid")
