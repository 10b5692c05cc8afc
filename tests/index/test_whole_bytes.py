"""Rows as bytes: who is stored so, and that an order by distance is the order by inner product."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import faiss
import numpy as np
import pytest

from mmseek import Content, Document
from mmseek.index import open_collection
from mmseek.index.ann import proposer, whole_bytes
from mmseek.index.ann.plan import Plan, plan_for

ROWS, DIM = 2000, 32


def made(kind, rows):
    plan = replace(plan_for(kind, DIM, len(rows)), scale=whole_bytes.scale_for(rows), effort=1000)
    return plan, proposer.build(plan, DIM, rows, [rows])


@pytest.mark.parametrize("kind", whole_bytes.KINDS)
@pytest.mark.parametrize("length", [1.0, 0.01, 50.0])
def test_the_best_by_inner_product_are_proposed(vectors, tmp_path, kind, length):
    """Whatever the one length of rows is, and that of queries, whose mean is elsewhere."""
    rows, queries = vectors(ROWS, dim=DIM) * np.float32(length), vectors(20, seed=1, dim=DIM)
    queries[:, 0] += 2
    plan, index = made(kind, rows)
    found = index.propose(queries * np.float32(7), 40, plan, None)
    for query, positions in zip(queries, found, strict=True):
        assert np.isin(np.argsort(-rows @ query)[:10], positions).mean() >= 0.9
    index.save(tmp_path / "x.index")
    again = proposer.load(plan, DIM, tmp_path / "x.index")
    np.testing.assert_array_equal(again.propose(queries, 40, plan, None), index.propose(queries, 40, plan, None))
    np.testing.assert_array_equal(
        again.propose(queries[:1], 40, plan, None)[0], again.propose(queries, 40, plan, None)[0]
    )


def test_all_but_rare_components_fit(vectors):
    rows = vectors(ROWS, dim=DIM)
    scale = whole_bytes.scale_for(rows)
    codes = whole_bytes.rows_as_bytes(rows, scale)
    assert 0 <= codes.min() <= codes.max() <= 255
    assert (np.abs((np.floor(codes) - 128) / scale - rows) <= 0.51 / scale).mean() >= 0.9999
    asked = whole_bytes.queries_as_bytes(rows[:5])
    assert np.abs(asked - 128.5).max(axis=1) == pytest.approx(127)
    assert np.isfinite(whole_bytes.queries_as_bytes(np.zeros((1, DIM), dtype=np.float32))).all()
    assert whole_bytes.scale_for(np.zeros((0, DIM), dtype=np.float32)) == 0
    assert whole_bytes.scale_for(np.zeros((3, DIM), dtype=np.float32)) == 0


def test_lengths_that_differ_are_not_compared_by_distance():
    assert whole_bytes.are_of_one_length(0.999, 1.0)
    assert not whole_bytes.are_of_one_length(0.99, 1.0)
    assert not whole_bytes.are_of_one_length(np.inf, 0.0)


def test_plans_of_earlier_versions_have_no_scale():
    body = plan_for("ivf-sq8", DIM, ROWS).to_json()
    del body["scale"]
    assert Plan.from_json(body).scale == 0
    for wrong in (-1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="'scale'"):
            Plan.from_json(body | {"scale": wrong})


@pytest.mark.parametrize("kind", whole_bytes.KINDS)
def test_rows_of_other_lengths_turn_a_collection_back_to_sq8(tmp_path, identity, vectors, kind):
    """Of one length when it is built, of several when it is folded: it finds as it did."""
    values, queries = vectors(1500), vectors(30, seed=2)
    late = vectors(100, seed=3) * np.linspace(0.5, 2, 100, dtype=np.float32)[:, None]
    with closing(open_collection(tmp_path / "c", mode="create", encoder=identity)) as collection:
        collection.upsert([Document(f"d{n}", Content.of("t")) for n in range(1500)], values)
        assert collection.ann.tune(kind, queries=queries).plan.scale > 0
        collection.upsert([Document(f"e{n}", Content.of("t")) for n in range(100)], late)
        build = collection.ann.fold()
        assert build.rows == 1600
        assert build.plan.scale == 0
        every = np.concatenate([values, late])
        shares = []
        for query in queries:
            hits = collection.search(query, 10)
            shares.append(np.mean([hit.score >= np.sort(every @ query)[-10] - 1e-5 for hit in hits]))
        assert np.mean(shares) >= 0.95
        collection.upsert([Document("last", Content.of("t"))], vectors(1, seed=9))
        assert collection.ann.fold().plan.scale == 0


def test_faiss_still_compares_bytes_by_distance(vectors):
    """What this rests on: codes that stand for themselves, also of a query."""
    index = faiss.IndexScalarQuantizer(DIM, faiss.ScalarQuantizer.QT_8bit_direct, faiss.METRIC_L2)
    rows = np.floor(whole_bytes.rows_as_bytes(vectors(10, dim=DIM), 100.0))
    index.add(rows)
    distances, positions = index.search(rows[3:4] + np.float32(0.4), 10)
    true = ((rows - rows[3]) ** 2).sum(axis=1)
    np.testing.assert_array_equal(distances[0], true[positions[0]])
