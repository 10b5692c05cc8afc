"""Triples, datasets as sources, and the plan of batches."""

from __future__ import annotations

import json
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmseek import Content
from mmseek._types import EncodeRequest
from mmseek.embed.engine import Unit
from mmseek.errors import ConfigError, InputError, ItemError
from mmseek.training.batches import Loader, make_chunks
from mmseek.training.data import open_source
from mmseek.training.data.rows import TrainingRow
from mmseek.training.data.triples import TriplesFile, parse_row, read_triples, row_to_json
from mmseek.training.sampling import BatchPlan
from mmseek.training.settings import BatchConfig, SourceConfig

words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
requests = st.builds(lambda text, asked: EncodeRequest(Content.of(text), "document", asked), words, st.none() | words)
rows = st.builds(
    lambda query, positives, negatives, instruction, scored: TrainingRow(
        EncodeRequest(Content.of(query), "query", instruction),
        tuple(positives),
        tuple(negatives),
        tuple(float(n) for n in range(len(positives) + len(negatives))) if scored else None,
    ),
    words,
    st.lists(requests, min_size=1, max_size=3),
    st.lists(requests, max_size=3),
    st.none() | words,
    st.booleans(),
)


@given(rows)
def test_a_row_that_is_written_is_read_back(row: TrainingRow) -> None:
    assert parse_row(json.loads(json.dumps(row_to_json(row))), base=None) == row


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"positives": ["b"]}, "the query is missing"),
        ({"query": "a"}, "no positives"),
        ({"query": "a", "positives": "b"}, "must be a list"),
        ({"query": "a", "positives": ["b"], "negatives": [{"texd": "c"}]}, "number 1 of negatives: .*unknown key"),
        ({"query": "a", "positives": ["b"], "negative": ["c"]}, "unknown key 'negative'"),
        ({"query": "a", "positives": ["b"], "scores": [1.0, 2.0]}, "scores must be 1 numbers"),
        ({"query": "a", "positives": ["b"], "instruction": 3}, "not a text"),
        ({"query": {"text": ""}, "positives": ["b"]}, "the query: has neither text nor image"),
    ],
)
def test_what_is_wrong_with_a_row_is_said_with_file_and_line(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"query": "a", "positives": ["b"]}}\n\n{json.dumps(row)}\nnot JSON\n')
    good, bad, broken = read_triples(path)
    assert isinstance(good, TrainingRow)
    assert isinstance(bad, ItemError)
    assert isinstance(broken, ItemError)
    assert (bad.line, broken.line) == (3, 4)
    with pytest.raises(ItemError, match=rf"rows\.jsonl:3: .*{reason}"):
        raise bad


def test_rows_are_read_where_they_stand(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"id": str(n), "query": f"größe {n}" * n, "positives": ["x"]}) for n in range(1, 9)]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join([lines[0], "", "bad", *lines[1:]]).encode())
    source = TriplesFile(path, instruction="by default")
    assert [source.row(n).id for n in range(len(source))] == [str(n) for n in range(1, 9)]
    assert source.row(3).query == EncodeRequest(Content.of("größe 4" * 4), "query", "by default")
    assert [error.line for error in source.bad] == [3]
    assert len(TriplesFile(path, limit=2)) == 2
    path.write_text("changed")
    with pytest.raises(ItemError, match="leave the file alone"):
        source.row(5)
    with pytest.raises(InputError, match="no row to train on; the first reason"):
        TriplesFile(path)


def test_a_dataset_is_a_source(tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    documents = [{"id": f"d{n}", "text": f"document {n}"} for n in range(4)]
    (tmp_path / "corpus.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in documents))
    queries = [{"id": "q1", "text": "one", "instruction": "own"}, {"id": "q2", "text": "two"}]
    (tmp_path / "queries.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in queries))
    (tmp_path / "qrels" / "train.tsv").write_text(
        "query-id\tcorpus-id\tscore\nq1\td0\t1\nq1\td3\t1\nq2\td1\t1\nq2\tgone\t1\n"
    )
    source = open_source(SourceConfig(str(tmp_path), "dataset", instruction="given"))
    first, second = source.row(0), source.row(1)
    assert [each.content.text for each in first.positives] == ["document 0", "document 3"]
    assert (first.query.instruction, second.query.instruction) == ("own", "given")
    assert len(second.positives) == 1


def test_the_plan_is_the_same_for_all_and_each_takes_its_share() -> None:
    whole = BatchPlan([10, 30], [1, 1], 8, sub_batch=4, seed=1)
    parts = [BatchPlan([10, 30], [1, 1], 8, sub_batch=4, seed=1, rank=rank, world=2) for rank in range(2)]
    for batch, first, second in islice(zip(whole, *parts, strict=False), 20):
        assert batch == first + second
        assert len({pick.source for pick in batch[:4]}) == len({pick.source for pick in batch[4:]}) == 1
    assert list(islice(whole, 3)) == list(islice(whole, 3))
    assert list(islice(whole, 3)) != list(islice(BatchPlan([10, 30], [1, 1], 8, sub_batch=4, seed=2), 3))


def test_every_row_comes_before_any_comes_again_and_weights_count() -> None:
    plan = BatchPlan([10, 5], [3, 1], 5, seed=0)
    picks = [pick for batch in islice(plan, 400) for pick in batch]
    shares = Counter(pick.source for pick in picks)
    assert 0.70 < shares[0] / len(picks) < 0.80
    firsts = [pick.row for pick in picks if pick.source == 0]
    for start in range(0, 500, 10):
        assert sorted(firsts[start : start + 10]) == list(range(10))
    homogeneous = BatchPlan([10, 5], [1, 1], 5, sub_batch=5)
    assert all(len({pick.source for pick in batch}) == 1 for batch in islice(homogeneous, 50))


def test_sizes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"batch\.size 9 does not divide by 2 processes"):
        BatchPlan([1], [1], 9, world=2)
    with pytest.raises(ConfigError, match=r"batch\.sub_batch 4"):
        BatchPlan([1], [1], 10, sub_batch=4)


def test_batches_begin_anywhere_and_equal_requests_stand_once(triples: Path) -> None:
    prepared: list[EncodeRequest] = []

    def prepare(request: EncodeRequest) -> tuple[Unit, ...]:
        prepared.append(request)
        return (Unit("x", request, 1, request),)

    def loader() -> Loader:
        return Loader(BatchPlan([12], [1], 6), [TriplesFile(triples)], prepare, negatives=2, steps=6)

    whole = list(loader())
    later = loader()
    later.start = 4
    for one, other in zip(whole[4:], later, strict=True):
        assert one.items == other.items
        assert one.places.tolist() == other.places.tolist()
    batch = whole[0]
    assert len(batch.items) == len(set(batch.items)) < len(batch.places) == 6 * 4
    assert batch.layout.teacher.shape == (6, 3)
    # A picture that is one row's positive and another's negative stands once, with one key.
    keys = batch.layout.keys.tolist()
    assert len(set(keys)) == len(set(batch.places.tolist()))


def test_chunks_hold_every_item_once_and_keep_to_their_budget() -> None:
    items = [(Unit("x", None, cost, cost),) for cost in (3, 9, 1, 7, 5, 2)]
    for config in (BatchConfig(), BatchConfig(chunk=2), BatchConfig(chunk_tokens=10)):
        chunks = make_chunks(items, config)
        assert sorted(place for chunk in chunks for place in chunk) == list(range(6))
    costs = [[items[place][0].cost for place in chunk] for chunk in make_chunks(items, BatchConfig(chunk_tokens=10))]
    assert costs == [[9], [7], [5, 3], [2, 1]]
