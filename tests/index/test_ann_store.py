"""A collection with a stored index: what is derived may be missing, old or damaged, and nothing else changes."""

from __future__ import annotations

import shutil
from contextlib import closing

import numpy as np
import pytest

from mmseek import Content, Document
from mmseek.errors import CollectionError, InputError
from mmseek.index import open_collection
from mmseek.index.ann import keeper as keeping
from mmseek.index.ann.layered import LayeredIndex
from mmseek.index.ann.plan import APPROXIMATE

ROWS = 1500
DIM = 8


def fill(collection, vectors, numbers, seed=0):
    values = vectors(len(numbers), seed=seed)
    documents = [Document(f"d{n}", Content.of(f"text {n}"), {"n": n}) for n in numbers]
    collection.upsert(documents, values)
    return {f"d{n}": value for n, value in zip(numbers, values, strict=True)}


@pytest.fixture
def folder(tmp_path, identity):
    return tmp_path / "collection"


@pytest.fixture
def writer(folder, identity):
    with closing(open_collection(folder, mode="create", encoder=identity)) as made:
        yield made


def index_in_use(collection):
    with collection._view.current() as (index, _):
        return index


def check_searches(collection, stored, queries, least=0.9, **filters):
    """Scores are those of the vectors, and as good as the best, for the most part."""
    names = [name for name in stored if name in filters.get("candidates", stored)]
    matrix = np.stack([stored[name] for name in names])
    shares = []
    for query in queries:
        hits = collection.search(query, 10, **filters)
        for hit in hits:
            assert hit.score == pytest.approx(float(stored[hit.id] @ query), abs=1e-5)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        wanted = np.sort(matrix @ query)[::-1][:10]
        assert len(hits) == len(wanted)
        shares.append(np.mean([hit.score >= wanted[-1] - 1e-5 for hit in hits]))
    assert np.mean(shares) >= least


@pytest.mark.parametrize("kind", APPROXIMATE)
def test_a_stored_index_finds_and_follows(writer, folder, vectors, kind):
    least = 0.6 if kind == "binary" else 0.9
    stored = fill(writer, vectors, range(ROWS))
    build = writer.ann.tune(kind, queries=vectors(60, seed=5))
    assert build.rows == ROWS
    info = writer.info().index
    assert (info.kind, info.wanted, info.rows, info.waiting) == (kind, kind, ROWS, 0)
    assert info.recall == build.recall >= least
    assert info.measured_on == "queries"
    queries = vectors(20, seed=6)
    with closing(open_collection(folder)) as reader:
        check_searches(reader, stored, queries, least)
        assert isinstance(index_in_use(reader), LayeredIndex)
        # New, replaced and deleted documents, seen by a reader that has the index loaded.
        stored |= fill(writer, vectors, range(ROWS - 50, ROWS + 100), seed=1)
        writer.delete([f"d{n}" for n in range(100)])
        stored = {name: value for name, value in stored.items() if int(name[1:]) >= 100}
        check_searches(reader, stored, queries, least)
        check_searches(reader, stored, queries, 1.0, candidates={"d7", "d500", f"d{ROWS + 5}"})
        assert index_in_use(reader).delta_rows == 150
        assert writer.info().index.waiting == 150
        writer.ann.fold()
        assert writer.info().index.waiting == 0
        check_searches(reader, stored, queries, least)
        assert index_in_use(reader).delta_rows == 0
        assert index_in_use(reader).base.plan.kind == kind
    assert writer.verify().ok


def test_vectors_that_a_compaction_moves_are_found(writer, folder, vectors, monkeypatch):
    stored = fill(writer, vectors, range(ROWS))
    writer.ann.tune("int8")
    gone = [f"d{n}" for n in range(0, ROWS, 7)]
    with closing(open_collection(folder)) as reader:
        check_searches(reader, stored, vectors(3, seed=1))
        writer.delete(gone)
        stored = {name: value for name, value in stored.items() if name not in gone}
        assert writer.compact() == len(gone)
        check_searches(reader, stored, vectors(20, seed=2), 0.99)
        assert isinstance(index_in_use(reader), LayeredIndex)
    assert writer.ann.folder.build().state.epoch == 1
    # Killed before the places were written down: they are asked of the ledger.
    monkeypatch.setattr(writer.ann, "moved", lambda: None)
    writer.delete(["d1"])
    writer.compact()
    del stored["d1"]
    assert writer.ann.folder.build().state.epoch == 1
    with closing(open_collection(folder)) as reader:
        check_searches(reader, stored, vectors(20, seed=3), 0.99)
        assert isinstance(index_in_use(reader), LayeredIndex)


@pytest.mark.parametrize("what", ["current.json", "settings.json", "*.index", "*.places", "queries.f32"])
@pytest.mark.parametrize("how", ["flip", "cut", "remove"])
def test_damage_is_seen_and_searched_around(writer, folder, vectors, what, how, caplog):
    stored = fill(writer, vectors, range(ROWS))
    writer.ann.tune("hnsw", queries=vectors(20, seed=5))
    (path,) = (folder / "ann").glob(what)
    raw = bytearray(path.read_bytes())
    if how == "remove":
        path.unlink()
    else:
        raw[len(raw) // 2] ^= 0x10
        path.write_bytes(raw if how == "flip" else raw[: len(raw) // 2 + 1])
    with closing(open_collection(folder)) as reader:
        check_searches(reader, stored, vectors(10, seed=1))
        # What people asked for (settings, sample queries) may be removed, and so may the whole build.
        silent = what == "queries.f32" or (how == "remove" and what in {"current.json", "settings.json"})
        assert reader.verify().ok == silent
        assert reader.info().documents == ROWS
        layered = isinstance(index_in_use(reader), LayeredIndex)
    assert layered == (what in {"settings.json", "queries.f32"})
    assert bool(caplog.records) == (not layered and (what, how) != ("current.json", "remove"))
    writer.ann.fold()
    if what != "settings.json":
        assert writer.verify().ok
        assert isinstance(index_in_use(writer), LayeredIndex)
    writer.ann.tune("hnsw")
    assert writer.verify().ok


def test_an_index_of_another_past_is_not_used(writer, folder, vectors, identity):
    """A copy of the ledger was put back, and other documents written: their rows have numbers that were used before."""
    fill(writer, vectors, range(ROWS))
    writer.close()
    older = folder.with_name("older")
    shutil.copytree(folder, older)
    with closing(open_collection(folder, mode="write")) as opened:
        fill(opened, vectors, range(ROWS, ROWS + 20), seed=1)
        opened.ann.tune("hnsw")
    with closing(open_collection(older, mode="write")) as opened:
        fill(opened, vectors, range(3000, 3020), seed=2)
        fill(opened, vectors, range(4000, 4020), seed=3)
    shutil.copytree(folder / "ann", older / "ann")
    with closing(open_collection(older, mode="write")) as opened:
        query = vectors(20, seed=2)[3]
        assert opened.search(query, 1)[0].id == "d3003"
        assert not isinstance(index_in_use(opened), LayeredIndex)
        opened.ann.fold()
        assert opened.search(query, 1)[0].id == "d3003"
        assert isinstance(index_in_use(opened), LayeredIndex)


def test_enough_new_rows_are_folded_in_beside_the_searches(writer, vectors, monkeypatch):
    monkeypatch.setattr(keeping, "_FOLD_ROWS", 100)
    stored = fill(writer, vectors, range(ROWS))
    writer.ann.tune("hnsw")
    for low in range(ROWS, ROWS + 300, 60):
        stored |= fill(writer, vectors, range(low, low + 60), seed=low)
        check_searches(writer, stored, vectors(3, seed=low))
    writer.ann.settle()
    assert writer.info().index.waiting <= 150
    assert writer.ann.folder.build().number > 1
    check_searches(writer, stored, vectors(20, seed=1))
    assert len(list(writer.ann.folder.path.glob("*.index"))) == 1


def test_an_index_is_built_anew_when_much_of_it_is_dead_or_new(writer, vectors):
    stored = fill(writer, vectors, range(ROWS))
    first = writer.ann.tune("rabitq")
    assert writer.ann.fold() == first
    writer.delete([f"d{n}" for n in range(ROWS // 2)])
    second = writer.ann.fold()
    assert (second.rows, second.trained) == (ROWS - ROWS // 2, ROWS - ROWS // 2)
    fill(writer, vectors, range(ROWS, ROWS + 100), seed=1)
    third = writer.ann.fold()
    assert (third.rows, third.trained) == (second.rows + 100, second.rows)
    fill(writer, vectors, range(5000, 5000 + 2 * ROWS), seed=2)
    fourth = writer.ann.fold()
    assert fourth.trained == fourth.rows == third.rows + 2 * ROWS
    assert stored


def test_a_failed_build_leaves_the_one_before(writer, folder, vectors, monkeypatch):
    stored = fill(writer, vectors, range(ROWS))
    writer.ann.tune("hnsw")
    before = writer.ann.folder.build()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mmseek.index.ann.files.write_file", full)
    with pytest.raises(CollectionError, match="the disk is full"):
        writer.ann.tune("int8")
    monkeypatch.undo()
    assert writer.ann.folder.build() == before
    assert writer.verify().ok
    check_searches(writer, stored, vectors(5, seed=1))
    writer.close()
    with closing(open_collection(folder, mode="write")) as opened:
        assert sorted(path.suffix for path in opened.ann.folder.path.glob("0*")) == [".index", ".places"]


def test_going_back_to_exact_removes_the_files(writer, vectors):
    stored = fill(writer, vectors, range(ROWS))
    writer.ann.tune("hnsw", queries=vectors(5))
    assert writer.ann.tune("exact") is None
    assert [path.name for path in writer.ann.folder.path.iterdir()] == ["queries.f32"]
    assert writer.info().index.kind == "exact"
    check_searches(writer, stored, vectors(5, seed=1), 1.0)


def test_an_empty_collection_is_tuned(writer, vectors):
    for kind in ("auto", "hnsw"):
        assert writer.ann.tune(kind) is None
        assert writer.search(vectors(1)[0], 3) == []
    fill(writer, vectors, range(20))
    assert writer.ann.fold().rows == 20
    assert len(writer.search(vectors(1)[0], 3)) == 3


def test_only_a_writer_tunes_and_only_with_sense(writer, folder, vectors):
    fill(writer, vectors, range(20))
    with closing(open_collection(folder)) as reader, pytest.raises(CollectionError, match="reading only"):
        reader.ann.tune("hnsw")
    for wrong in ({"kind": "tree"}, {"recall": 0.0}, {"recall": 1.5}, {"memory": 0}, {"queries": vectors(2, dim=5)}):
        with pytest.raises(InputError):
            writer.ann.tune(**{"kind": "hnsw"} | wrong)
    assert writer.ann.folder.build() is None
