"""The second stage of a search: what it may change, and what not."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmseek import Content, Document, Hit, Query
from mmseek._types import Pair
from mmseek.errors import EncodeError, InputError, MediaError, MmseekError
from mmseek.pipeline import Retriever
from mmseek.pipeline.reranking import rerank_hits
from mmseek.protocols import Collection, Reranker
from mmseek.testing import FakeEncoder, FakeReranker

COUNT = 30
RELEVANT = {f"d{number}" for number in (3, 7, 11, 19, 28)}


def number(content: Content) -> int:
    return int(content.text.split()[-1])


def perfect(pair: Pair) -> float:
    return 1.0 if f"d{number(pair.document)}" in RELEVANT else 0.0


@pytest.fixture
def filled(collection: Collection, encoder: FakeEncoder) -> Collection:
    documents = [Document(f"d{each}", Content.of(f"text {each}")) for each in range(COUNT)]
    Retriever(encoder, collection).add(documents)
    return collection


def ndcg_at_10(ids: Sequence[str]) -> float:
    gains = [1 / math.log2(rank + 1) for rank, name in enumerate(ids[:10], start=1) if name in RELEVANT]
    return sum(gains) / sum(1 / math.log2(rank + 1) for rank in range(1, 1 + min(10, len(RELEVANT))))


def test_a_perfect_scorer_reaches_ndcg_1(filled: Collection, encoder: FakeEncoder) -> None:
    plain = Retriever(encoder, filled).search("anything")
    sharp = Retriever(encoder, filled, FakeReranker(perfect), rerank_depth=COUNT).search("anything")
    assert ndcg_at_10([hit.id for hit in plain]) < 0.9, "chance alone would pass"
    assert ndcg_at_10([hit.id for hit in sharp]) == 1.0
    assert [hit.rank for hit in sharp] == list(range(1, 11))


def test_a_constant_scorer_changes_no_order(filled: Collection, encoder: FakeEncoder) -> None:
    plain = Retriever(encoder, filled).search("anything", k=COUNT)
    same = Retriever(encoder, filled, FakeReranker(lambda _: 0.5)).search("anything", k=COUNT)
    assert [hit.id for hit in same] == [hit.id for hit in plain]


def test_hits_say_both_scores_and_the_times_add_up(filled: Collection, encoder: FakeEncoder) -> None:
    reranker = FakeReranker(lambda pair: float(number(pair.document)))
    plain = {hit.id: hit for hit in Retriever(encoder, filled).search("anything", k=COUNT)}
    result = Retriever(encoder, filled, reranker, rerank_depth=COUNT).search("anything", k=3, instruction="Find.")
    assert [(hit.id, hit.score) for hit in result] == [("d29", 29.0), ("d28", 28.0), ("d27", 27.0)]
    for hit in result:
        assert hit.scores == {"dense": plain[hit.id].scores["dense"], "rerank": hit.score}
        assert hit.document == plain[hit.id].document
    assert set(result.timings) == {"encode", "search", "rerank"}
    assert sum(result.timings.values()) == pytest.approx(result.took_ms)
    assert {pair.instruction for pair in reranker.pairs} == {"Find."}


@pytest.mark.parametrize(("depth", "k", "asked"), [(5, 2, 5), (5, 8, 8), (50, 10, COUNT)])
def test_the_depth_bounds_what_is_scored(
    filled: Collection, encoder: FakeEncoder, depth: int, k: int, asked: int
) -> None:
    reranker = FakeReranker(lambda pair: float(number(pair.document)))
    result = Retriever(encoder, filled, reranker, rerank_depth=depth).search("anything", k=k)
    first = Retriever(encoder, filled).search("anything", k=asked)
    assert [pair.document for pair in reranker.pairs] == [hit.document.content for hit in first]
    assert [hit.id for hit in result] == sorted((hit.id for hit in first), key=lambda name: -int(name[1:]))[:k]


def test_a_document_that_cannot_be_scored_comes_last(filled: Collection, encoder: FakeEncoder) -> None:
    def judge(pair: Pair) -> float:
        if number(pair.document) % 2:
            raise EncodeError(f"{pair.document.text} is odd")
        return float(number(pair.document))

    result = Retriever(encoder, filled, FakeReranker(judge)).search("anything", k=COUNT)
    assert len(result) == COUNT
    assert [int(hit.id[1:]) for hit in result.hits[:15]] == list(range(28, -1, -2))
    odd = result.hits[15:]
    assert {hit.id for hit in odd} == set(result.unscored)
    assert all("rerank" not in hit.scores and hit.score == 0.0 for hit in odd)
    dense = [hit.scores["dense"] for hit in odd]
    assert dense == sorted(dense, reverse=True)
    assert str(result.unscored["d3"]) == "text 3 is odd"


def test_if_nothing_can_be_scored_the_reason_is_raised(filled: Collection, encoder: FakeEncoder) -> None:
    def judge(_: Pair) -> float:
        raise MediaError("the query's picture is gone")

    with pytest.raises(MediaError, match="gone"):
        Retriever(encoder, filled, FakeReranker(judge)).search("anything")


def test_no_hits_are_no_error(collection: Collection, encoder: FakeEncoder) -> None:
    assert len(Retriever(encoder, collection, FakeReranker(perfect)).search("anything")) == 0


def test_a_reranker_that_loses_a_document_is_found_out() -> None:
    class Losing(FakeReranker):
        def stream(self, pairs: object) -> object:  # type: ignore[override]
            return list(super().stream(pairs))[:-1]  # type: ignore[arg-type]

    hits = [Hit(rank, str(rank), 1.0, {}, Document(str(rank), Content.of(f"{rank}"))) for rank in (1, 2)]
    with pytest.raises(MmseekError, match="1 scores for 2 documents"):
        rerank_hits(Losing(perfect), Query(Content.of("q")), hits)


@given(st.lists(st.one_of(st.none(), st.floats(-5, 5)), max_size=20), st.integers(1, 25))
def test_any_outcomes_give_ordered_hits(outcomes: list[float | None], k: int) -> None:
    def judge(pair: Pair) -> float:
        score = outcomes[number(pair.document)]
        if score is None:
            raise EncodeError("no score")
        return score

    hits = [
        Hit(
            place + 1,
            str(place),
            1 - place / 100,
            {"dense": 1 - place / 100},
            Document(str(place), Content.of(f"{place}")),
        )
        for place in range(len(outcomes))
    ]
    if outcomes and not any(score is not None for score in outcomes):
        with pytest.raises(EncodeError):
            rerank_hits(FakeReranker(judge), Query(Content.of("q"), k=k), hits)
        return
    kept = rerank_hits(FakeReranker(judge), Query(Content.of("q"), k=k), hits).hits
    assert [hit.rank for hit in kept] == list(range(1, 1 + min(k, len(hits))))
    assert len({hit.id for hit in kept}) == len(kept)
    scores = [hit.score for hit in kept]
    assert scores == sorted(scores, reverse=True)


def test_open_takes_a_reranker(
    filled: Collection, encoder: FakeEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeReranker(perfect)
    loads: Callable[..., Reranker] = lambda spec, *, device: {("planted", "cpu"): fake}[spec, device]  # noqa: E731
    monkeypatch.setattr("mmseek.pipeline.retriever.load_reranker", loads)
    place = filled.info().location
    with Retriever.open(place, encoder, device="cpu", reranker="planted", rerank_depth=COUNT) as opened:
        assert opened.reranker is fake
        assert {hit.id for hit in opened.search("x", k=5)} == RELEVANT
    with pytest.raises(InputError, match="at least 1, not 0"):
        Retriever.open(place, encoder, reranker=fake, rerank_depth=0)
