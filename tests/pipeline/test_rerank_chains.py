"""Chains of rerankers: depths, fusion, thresholds, the time, and what is told of each hit."""

from __future__ import annotations

import pytest

from mmseek import Content, Document, Query
from mmseek._types import Hit, Pair, Sent
from mmseek.errors import InputError
from mmseek.pipeline import Reranking, Retriever
from mmseek.pipeline import reranking as room
from mmseek.pipeline.explaining import explanation_json
from mmseek.pipeline.reranking import Stage, as_stages, run_stages
from mmseek.protocols import Collection
from mmseek.testing import FakeEncoder, FakeReranker

COUNT = 40
QUERY = Query(Content.of("q"), k=10)


def number(pair: Pair) -> int:
    return int(pair.document.text)


def hits(count: int = COUNT) -> list[Hit]:
    """In order, from 1 downwards."""
    scores = [1 - place / 100 for place in range(count)]
    return [
        Hit(place + 1, str(place), score, {"dense": score}, Document(str(place), Content.of(str(place))))
        for place, score in enumerate(scores)
    ]


def ids(found: room.Reranked) -> list[int]:
    return [int(hit.id) for hit in found.hits]


def test_each_reranker_orders_the_best_of_the_one_before() -> None:
    cheap = FakeReranker(lambda pair: number(pair) % 10, spec="cheap")
    sharp = FakeReranker(lambda pair: -number(pair), spec="sharp")
    found = run_stages([Stage(cheap, 30), Stage(sharp, 4)], QUERY, hits())
    assert len(cheap.pairs) == 30
    assert [number(pair) for pair in sharp.pairs] == [9, 19, 29, 8]
    assert ids(found) == [8, 9, 19, 29, 18, 28, 7, 17, 27, 6]
    assert [(stage.reranker, stage.asked, stage.scored, stage.complete) for stage in found.stages] == [
        ("cheap", 30, 30, True),
        ("sharp", 4, 4, True),
    ]
    assert found.hits[0].scores == pytest.approx({"dense": 0.92, "rerank_1": 8, "rerank": -8})
    assert found.hits[4].scores == pytest.approx({"dense": 0.82, "rerank_1": 8})
    scores = [hit.score for hit in found.hits]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("count", "depths", "expected"),
    [
        (1, None, [50]),
        (1, 7, [7]),
        (2, None, [100, 20]),
        (2, [80], [80, 20]),
        (3, [80, 40, 5], [80, 40, 5]),
    ],
)
def test_usual_depths(count: int, depths: int | list[int] | None, expected: list[int]) -> None:
    stages = as_stages([FakeReranker(number)] * count, depths)
    assert [stage.depth for stage in stages] == expected
    with pytest.raises(InputError, match="give one for each"):
        as_stages([FakeReranker(number)] * count, [1] * (count + 1))


def test_fusion_with_the_first_stage() -> None:
    scorer = Stage(FakeReranker(lambda pair: 0.015 if number(pair) == 2 else 0.0), COUNT)
    assert ids(run_stages([scorer], QUERY, hits()))[:4] == [2, 0, 1, 3]
    weighted = run_stages([scorer], QUERY, hits(), Reranking(fusion=1.0))
    assert ids(weighted)[:4] == [0, 2, 1, 3]
    assert weighted.hits[1].score == pytest.approx(0.98 + 0.015)
    assert weighted.hits[1].scores["rerank"] == 0.015
    reciprocal = run_stages([scorer], QUERY, hits(), Reranking(fusion="rrf"))
    assert ids(reciprocal)[:3] == [2, 0, 1] or ids(reciprocal)[:3] == [0, 2, 1]
    assert reciprocal.hits[0].score < 0.04


@pytest.mark.parametrize("fusion", [None, 0.5, "rrf"])
def test_a_constant_scorer_changes_no_order(fusion: room.Fusion | None) -> None:
    stages = [Stage(FakeReranker(lambda _: 0.5), 30), Stage(FakeReranker(lambda _: 0.1), 10)]
    assert ids(run_stages(stages, QUERY, hits(), Reranking(fusion=fusion))) == list(range(10))


def test_a_threshold_may_leave_nothing() -> None:
    scorer = Stage(FakeReranker(lambda pair: number(pair) / 10), 8)
    found = run_stages([scorer], Query(Content.of("q"), k=3), hits(), Reranking(threshold=0.5))
    assert (ids(found), found.below) == ([7, 6, 5], COUNT - 3)
    none = run_stages([scorer], QUERY, hits(), Reranking(threshold=9.0))
    assert (none.hits, none.below) == ((), COUNT)
    without = run_stages([], QUERY, hits(), Reranking(threshold=0.97))
    assert ids(without) == [0, 1, 2, 3]
    with pytest.raises(InputError, match="not a number"):
        Reranking(threshold=float("nan"))


class Clock:
    """A clock that each scored pair moves on."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


def test_the_time_ends_reranking_and_not_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(room, "time", clock)

    def slow(pair: Pair) -> float:
        clock.now += 0.1
        return number(pair)

    stages = [Stage(FakeReranker(slow, spec="slow"), 30), Stage(FakeReranker(slow, spec="next"), 10)]
    found = run_stages(stages, QUERY, hits(), Reranking(budget=1.05))
    first, second = found.stages
    assert (first.scored, first.complete) == (10, False)
    assert (second.scored, second.complete, second.asked) == (4, False, 10), "it tries a few, for its speed is unknown"
    assert ids(found) == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert clock.now <= 1.05 + 0.4
    late = run_stages(stages, QUERY, hits(), Reranking(budget=0.9))
    assert [stage.scored for stage in late.stages] == [8, 4]
    over = run_stages(stages, QUERY, hits(), Reranking(budget=0.3))
    assert [stage.scored for stage in over.stages] == [4, 0]
    whole = run_stages(stages, QUERY, hits(), Reranking(budget=100.0))
    assert [stage.complete for stage in whole.stages] == [True, True]
    with pytest.raises(InputError, match="above 0"):
        Reranking(budget=0.0)


class Telling(FakeReranker):
    def sent(self, pair: Pair) -> Sent:
        return Sent(f"is it {pair.document.text}?", (16,), 20)


def test_every_hit_is_explained(collection: Collection, encoder: FakeEncoder) -> None:
    Retriever(encoder, collection).add(Document(str(n), Content.of(str(n))) for n in range(12))
    with_sent = Retriever(encoder, collection, Telling(number), rerank_depth=5)
    plain = Retriever(encoder, collection).search("x", k=12)
    result = with_sent.search("x", k=5, explain=True)
    assert set(result.explained) == {hit.id for hit in result}
    for hit in result:
        told = explanation_json(result.explained[hit.id])
        before = plain.hits[told["first_rank"] - 1]
        assert (before.id, before.score) == (hit.id, told["first_score"])
        assert told["scores"] == {"dense": before.score, "rerank": float(hit.id)}
        assert told["sent"] == {"prompt": f"is it {hit.id}?", "picture_tokens": [16], "tokens": 20}
        assert told["took_ms"] >= 0
    assert with_sent.search("x").explained == {}
    silent = Retriever(encoder, collection, FakeReranker(number)).search("x", explain=True)
    assert {told.sent for told in silent.explained.values()} == {None}
    assert [hit.id for hit in with_sent.search("x", k=5, rerank=False)] == [hit.id for hit in plain.hits[:5]]
