"""What is chosen, and that the recall that is told is the recall there is."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import faiss
import numpy as np
import pytest

from mmseek.errors import CorruptCollection, InputError
from mmseek.index.ann import gpu, plan, proposer, tuning
from mmseek.index.ann.files import Settings
from mmseek.index.ann.layered import Base, LayeredIndex
from mmseek.index.ann.sources import ArraySource

ROWS, DIM = 4000, 16


@pytest.fixture
def gap(vectors):
    """Rows in one corner of the space, queries in another, as pictures and texts are."""
    rows, queries = vectors(ROWS, dim=DIM), vectors(80, seed=1, dim=DIM)
    rows[:, 0] += 1.5
    queries[:, 1] += 1.5
    return tuple(part / np.linalg.norm(part, axis=1, keepdims=True) for part in (rows, queries))


def trial_of(rows, queries):
    return tuning.make_trial(DIM, np.arange(len(rows)) * 3, ArraySource(rows), queries, np.arange(len(rows)))


@pytest.mark.parametrize("kind", plan.APPROXIMATE)
def test_the_recall_that_is_told_is_the_recall_there_is(gap, oracle, kind):
    rows, queries = gap
    tuned = tuning.tune(Settings(kind, 0.9), trial_of(rows, queries))
    index = LayeredIndex(DIM, Base(np.arange(ROWS) * 3, tuned.proposer, ArraySource(rows), tuned.plan, 1.0), few=0)
    stored = dict(zip((np.arange(ROWS) * 3).tolist(), rows, strict=True))
    found = [set(index.search(query[None], 10)[0][0].tolist()) for query in queries]
    true = [set(oracle(stored, query, 10)[0].tolist()) for query in queries]
    assert tuned.recall == pytest.approx(np.mean([len(a & b) / 10 for a, b in zip(found, true, strict=True)]), abs=0.01)
    assert tuned.recall >= (0.9 if kind != "binary" else 0.5)


def test_more_recall_is_looked_for_with_more_care(gap):
    rows, queries = gap
    trial = trial_of(rows, queries)
    low, high = (tuning.tune(Settings("rabitq", target), trial) for target in (0.5, 0.999))
    assert low.plan.factory == high.plan.factory
    assert low.plan.effort * low.plan.rescore < high.plan.effort * high.plan.rescore
    assert low.recall < high.recall


def test_recall_depends_on_what_is_asked(gap):
    """Tuned on rows in place of queries, an index is found to be better than it is."""
    rows, queries = gap
    trial = trial_of(rows, queries)
    made = tuning.tune(Settings("rabitq", 0.9), trial)
    low = plan.plan_for("rabitq", DIM, ROWS)
    cheap = next(plan.settings_of(low))
    from_rows = tuning.measure(trial_of(rows, rows[::50]), made.proposer, cheap)
    from_queries = tuning.measure(trial, made.proposer, cheap)
    assert from_rows[0] > from_queries[0] + 0.02


def test_auto_goes_by_size_and_memory():
    assert plan.kinds_to_try("auto", None, 384, 10_000) == ["exact"]
    assert plan.kinds_to_try("auto", 10**12, 384, 10**6) == ["hnsw", "ivf-sq8", "ivf-pq", "rabitq"]
    assert plan.kinds_to_try("auto", 3 * 10**8, 384, 10**6) == ["ivf-pq", "rabitq"]
    assert plan.kinds_to_try("auto", 1, 384, 10**6) == ["rabitq"]
    assert plan.kinds_to_try("int8", 1, 384, 10**6) == ["int8"]
    with pytest.raises(InputError, match="kind"):
        plan.check_kind("lsh")
    with pytest.raises(InputError, match="kind"):
        plan.plan_for("exact", 8, 10)


def test_auto_takes_one_that_reaches_the_target(gap, monkeypatch):
    monkeypatch.setattr(plan, "_EXACT_NUMBERS", 0)
    monkeypatch.setattr(tuning, "_PILOT", 1000)
    rows, queries = gap
    told = []
    tuned = tuning.tune(Settings("auto", 0.95), trial_of(rows, queries), told.append)
    assert tuned.recall >= 0.95
    assert [line.split()[1] for line in told if line.startswith("tried")] == ["hnsw", "ivf-sq8", "ivf-pq", "rabitq"]


@pytest.mark.parametrize("dim", [1, 2, 3, 7, 20, 33])
@pytest.mark.parametrize("kind", plan.APPROXIMATE)
def test_any_dimension_and_few_rows(vectors, tmp_path, kind, dim):
    for rows in (1, 30, 700):
        values = vectors(rows, dim=dim)
        layout = plan.plan_for(kind, dim, rows)
        made = proposer.build(layout, dim, values, [values])
        made.save(tmp_path / "file")
        again = proposer.load(layout, dim, tmp_path / "file")
        queries = vectors(3, seed=1, dim=dim)
        assert len(again) == rows
        np.testing.assert_array_equal(again.propose(queries, 5, layout, None), made.propose(queries, 5, layout, None))


def test_plans_are_read_back():
    layout = plan.plan_for("rabitq", 384, 10**6)
    assert plan.Plan.from_json(layout.to_json()) == layout
    for wrong in ({"kind": "exact"}, {"rescore": 0}, {"lists": "many"}):
        with pytest.raises(ValueError, match=r"many|kind"):
            plan.Plan.from_json(layout.to_json() | wrong)


@pytest.mark.parametrize("kind", ["hnsw", "int8", "binary"])
def test_faiss_reads_no_more_than_a_file_can_hold(vectors, tmp_path, kind):
    values = vectors(500)
    layout = plan.plan_for(kind, 8, 500)
    made = proposer.build(layout, 8, values, [values])
    path = tmp_path / "file"
    made.save(path)
    with pytest.raises(CorruptCollection):
        proposer.load(layout, 9, path)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CorruptCollection):
        proposer.load(layout, 8, path)
    assert 0 < faiss.get_deserialization_vector_byte_limit() < 10**6


def fake_faiss(calls):
    """What a build with CAGRA has, as far as it is used."""

    class Cagra:
        def __init__(self, resources, dim, metric, config):
            calls.append(("made", dim, metric, config.graph_degree))

        def train(self, vectors):
            self.vectors = vectors

        def copyTo(self, graph):  # noqa: N802
            graph.index = faiss.IndexHNSWFlat(self.vectors.shape[1], 8, faiss.METRIC_INNER_PRODUCT)
            graph.index.add(self.vectors)
            calls.append("copied")

    return SimpleNamespace(
        StandardGpuResources=object,
        GpuIndexCagraConfig=SimpleNamespace,
        GpuIndexCagra=Cagra,
        IndexHNSWCagra=SimpleNamespace,
        METRIC_INNER_PRODUCT=faiss.METRIC_INNER_PRODUCT,
        get_num_gpus=lambda: 1,
    )


def test_a_graph_is_built_on_a_gpu_where_there_is_one(vectors, monkeypatch):
    layout, source = plan.plan_for("hnsw", 8, 300), ArraySource(vectors(300))
    calls = []
    library = fake_faiss(calls)
    monkeypatch.setattr(proposer, "FaissProposer", lambda graph: graph.index)
    assert gpu.build(layout, 8, source, 300, library).ntotal == 300
    assert calls == [("made", 8, faiss.METRIC_INNER_PRODUCT, 48), "copied"]
    for other in (plan.plan_for("rabitq", 8, 300), layout):
        without = library if other is not layout else SimpleNamespace(**vars(library) | {"get_num_gpus": lambda: 0})
        assert gpu.build(other, 8, source, 300, without) is None
    assert gpu.build(layout, 8, source, 0, library) is None
    assert "torch" not in vars(sys.modules["mmseek.index.ann.gpu"])
