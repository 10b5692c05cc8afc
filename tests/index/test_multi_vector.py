"""Collections with a vector for each token: every kind of place against a plain MaxSim, and what a folder promises."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseek import Content, Document, EncoderIdentity
from mmseek.errors import CollectionError, EncoderMismatch, FormatTooNew, InputError
from mmseek.index import (
    copy_collection,
    manifest,
    open_collection,
    repair_collection,
    restore_collection,
    take_snapshot,
    verify_collection,
)
from mmseek.index.duplicates import find_duplicates
from mmseek.index.exchange import export_collection, import_collection
from mmseek.index.tokens.arrays import mean_of, widen
from mmseek.index.tokens.maxsim import exact_maxsim
from mmseek.protocols import Collection

DIM = 8
IDENTITY = EncoderIdentity("colqwen2:x", hashlib.sha256(b"many").hexdigest(), DIM, multi_vector=True)
Tokens = list[np.ndarray]


def tokens(count: int, seed: int = 0) -> Tokens:
    """Unit vectors, 1 to 24 a document, some documents alike."""
    chance = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        matrix = chance.standard_normal((chance.integers(1, 25), DIM)).astype(np.float32)
        found.append(matrix / np.linalg.norm(matrix, axis=1, keepdims=True))
    return found


def oracle(stored: dict[str, np.ndarray], query: np.ndarray) -> dict[str, float]:
    """MaxSim of every document, in float64, over vectors as float16 holds them."""
    wide = query.astype(np.float64)
    return {
        name: float((wide @ matrix.astype(np.float16).astype(np.float64).T).max(axis=1).sum())
        for name, matrix in stored.items()
    }


def check_best(collection: Collection, stored: dict[str, np.ndarray], query: np.ndarray, k: int, **how: Any) -> None:
    """The k best, whatever the order within what the engine's float16 arithmetic may confuse."""
    wanted = oracle(stored, query)
    hits = collection.search(query, k, **how)
    assert len(hits) == min(k, len(stored))
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    for hit in hits:
        assert hit.score == pytest.approx(wanted[hit.id], abs=3e-3)
        assert hit.scores == {"dense": hit.score}
    if hits:
        least = sorted(wanted.values(), reverse=True)[len(hits) - 1]
        assert all(wanted[hit.id] >= least - 6e-3 for hit in hits)


@pytest.fixture
def collection(location: str | Path) -> Iterator[Collection]:
    with closing(open_collection(location, mode="create", encoder=IDENTITY)) as made:
        yield made


def test_search_is_maxsim_on_every_kind(collection, location, documents):
    matrices = tokens(90)
    for low in range(0, 90, 30):
        collection.upsert(documents(range(low, low + 30)), matrices[low : low + 30], [f"h{n}" for n in range(30)])
    stored = {f"d{n}": matrix for n, matrix in enumerate(matrices)}
    for query in tokens(4, seed=9):
        check_best(collection, stored, query, 10)
        check_best(collection, {f"d{n}": matrices[n] for n in range(20)}, query, 7, filter="n < 20")
        check_best(collection, {f"d{n}": matrices[n] for n in (3, 5)}, query, 7, candidates=["d3", "d5", "none"])
        check_best(collection, {f"d{n}": matrices[n] for n in range(2, 90)}, query, 90, exclude=["d0", "d1", "unknown"])
    assert [hit.id for hit in collection.search_text("text 7", 1)] == ["d7"]
    assert collection.search(tokens(1)[0], 3, candidates=[]) == []
    collection.close()
    again = open_collection(location)
    assert list(again.documents()) == documents(range(90))
    assert again.digests(["d31"]) == {"d31": "h1"}
    np.testing.assert_array_equal(again.vectors(["d4", "unknown"])["d4"], matrices[4].astype(np.float16))
    report = again.verify()
    assert (report.ok, report.documents, report.vectors) == (True, 90, 90)
    info = again.info()
    assert (info.documents, info.encoder, info.format_version) == (90, IDENTITY, 2)
    again.close()


def test_replacing_deleting_and_compacting(collection, documents):
    matrices, new = tokens(60), tokens(60, seed=5)
    collection.upsert(documents(range(60)), matrices)
    query = tokens(1, seed=7)[0]
    check_best(collection, {f"d{n}": matrix for n, matrix in enumerate(matrices)}, query, 60)
    collection.upsert(documents(range(10, 20)), new[10:20])
    assert collection.delete([f"d{n}" for n in range(0, 60, 2)]) == 30
    stored = {f"d{n}": (new if 10 <= n < 20 else matrices)[n] for n in range(1, 60, 2)}
    for _ in range(2):
        check_best(collection, stored, query, 60)
        assert collection.verify().ok
        collection.compact()
    collection.upsert(documents([100]), [query])
    assert collection.search(query, 1)[0].id == "d100"
    assert collection.delete([document.id for document in collection.documents()]) == 31
    collection.compact()
    assert collection.search(query, 5) == []
    collection.upsert(documents([101]), [query])
    assert [hit.id for hit in collection.search(query, 5)] == ["d101"]
    assert collection.verify().ok


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda given: given[:1], "2 documents need as many arrays of vectors, not 1"),
        (lambda given: [given[0], np.empty((0, DIM))], r"shape \(tokens, 8\) for each document, and document 'd1'"),
        (lambda given: [given[0], given[1][0]], r"document 'd1' has \(8,\)"),
        (lambda given: [given[0], np.zeros((2, DIM))], "all are zero"),
        (lambda given: [given[0], np.full((2, DIM), 1e9)], "NaN or infinity"),
        (lambda given: np.stack([matrix[0] for matrix in given]), "shape"),
    ],
)
def test_vectors_that_are_none_are_refused(collection, documents, change, says):
    with pytest.raises(InputError, match=says):
        collection.upsert(documents([0, 1]), change(tokens(2)))
    assert collection.info().documents == 0


def test_queries_and_encoders_of_the_other_kind_are_refused(collection, location, tmp_path):
    with pytest.raises(InputError, match=r"multi-vector collection: a query is finite numbers of shape \(tokens, 8\)"):
        collection.search(np.ones(DIM, dtype=np.float32), 3)
    collection.close()
    single = EncoderIdentity(IDENTITY.spec, IDENTITY.fingerprint, DIM)
    with pytest.raises(EncoderMismatch, match="8-d a token"):
        open_collection(location, encoder=single)


def test_equal_scores_keep_the_order_of_storing(tmp_path, documents):
    """Documents of equal vectors at different places of a file, in blocks of different sizes."""
    with closing(open_collection(tmp_path / "c", mode="create", encoder=IDENTITY)) as collection:
        matrices, same = tokens(40), tokens(1, seed=3)[0]
        for n in range(0, 40, 4):
            matrices[n] = same
        for low, high in ((0, 3), (3, 17), (17, 40)):
            collection.upsert(documents(range(low, high)), matrices[low:high])
        hits = collection.search(same, 10)
        assert [hit.id for hit in hits] == [f"d{n}" for n in range(0, 40, 4)]
        assert len({hit.score for hit in hits}) == 1
        alone = collection.search(same, 1, candidates=["d36"])
        assert alone[0].score == hits[0].score


def test_blocks_of_a_file_are_read_in_pieces(tmp_path, documents, monkeypatch):
    """Small pieces, long documents and files of a few rows give what one piece gives."""
    matrices = tokens(50)
    matrices[7] = np.tile(matrices[7], (40, 1))
    query = tokens(1, seed=2)[0]
    with closing(open_collection(tmp_path / "c", mode="create", encoder=IDENTITY)) as collection:
        collection._tokens.limit = 40_000
        for low in range(0, 50, 5):
            collection.upsert(documents(range(low, low + 5)), matrices[low : low + 5])
        collection.delete([f"d{n}" for n in (2, 3, 4, 5, 6, 30)])
        whole = [(hit.id, hit.score) for hit in collection.search(query, 20)]
        monkeypatch.setattr("mmseek.index.tokens.maxsim._READ_VALUES", 40 * DIM)
        monkeypatch.setattr("mmseek.index.tokens.maxsim._BLOCK_VALUES", 3 * DIM)
        assert [(hit.id, hit.score) for hit in collection.search(query, 20)] == whole
        wanted = oracle({f"d{n}": matrix for n, matrix in enumerate(matrices) if n not in (2, 3, 4, 5, 6, 30)}, query)
        assert [name for name, _ in whole] == sorted(wanted, key=lambda name: -wanted[name])[:20]


@given(st.lists(st.integers(0, 2**16 - 1), min_size=1, max_size=64))
def test_widening_is_exact(bits):
    halves = np.array(bits, dtype=np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    wide = widen(halves, np.empty(halves.shape, dtype=np.float32))
    np.testing.assert_array_equal(wide, halves.astype(np.float32))
    assert (np.signbit(wide) == np.signbit(halves)).all()


@settings(max_examples=25)
@given(st.data())
def test_any_sequence_of_changes(tmp_path_factory, data):
    """Upserts, deletions, compactions and reopenings, seen by a writer and by a reader, against a dictionary."""
    place = tmp_path_factory.mktemp("machine") / "c"
    stored: dict[str, np.ndarray] = {}
    writer = open_collection(place, mode="create", encoder=IDENTITY)
    writer._tokens.limit = 600
    reader = open_collection(place)
    for step in range(data.draw(st.integers(1, 8))):
        what = data.draw(st.sampled_from(["upsert", "upsert", "delete", "compact", "reopen"]))
        names = data.draw(st.lists(st.sampled_from([f"d{n}" for n in range(8)]), unique=True, max_size=5))
        if what == "upsert":
            matrices = [matrix[:6] for matrix in tokens(len(names), seed=step * 100 + len(names))]
            writer.upsert([Document(name, Content.of(name)) for name in names], matrices)
            for name, matrix in zip(names, matrices, strict=True):
                stored.pop(name, None)
                stored[name] = matrix
        elif what == "delete":
            assert writer.delete(names) == len(set(names) & set(stored))
            for name in names:
                stored.pop(name, None)
        elif what == "compact":
            writer.compact()
        else:
            writer.close()
            writer = open_collection(place, mode="write", encoder=IDENTITY)
            writer._tokens.limit = 600
        query = tokens(1, seed=step)[0]
        wanted = oracle(stored, query)
        for collection in (reader, writer):
            hits = collection.search(query, 20)
            assert [hit.id for hit in hits] == sorted(wanted, key=lambda name: -wanted[name])
            assert [hit.score for hit in hits] == pytest.approx(sorted(wanted.values(), reverse=True), abs=1e-5)
    assert writer.verify().ok
    writer.close()
    reader.close()


@pytest.fixture
def filled(tmp_path: Path, documents: Callable[..., list[Document]]) -> Path:
    """A folder of 40 documents in four blocks."""
    place = tmp_path / "filled"
    with closing(open_collection(place, mode="create", encoder=IDENTITY)) as made:
        matrices = tokens(40)
        for low in range(0, 40, 10):
            made.upsert(documents(range(low, low + 10)), matrices[low : low + 10], ["h"] * 10)
    return place


def contents(place: str | Path) -> dict[str, bytes]:
    with closing(open_collection(place)) as opened:
        names = [document.id for document in opened.documents()]
        return {name: matrix.tobytes() for name, matrix in opened.vectors(names).items()}


def flip(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 4
    path.write_bytes(raw)


def test_a_flipped_bit_of_a_token_is_found_and_its_block_left_out(filled):
    before = contents(filled)
    flip(filled / "tokens" / "000001.f16", 3)
    report = verify_collection(filled)
    assert any("tokens/000001.f16: rows 0 to" in problem for problem in report.problems)
    repaired = repair_collection(filled)
    assert repaired.after.ok
    assert set(repaired.dropped) == {f"d{n}" for n in range(10)}
    assert contents(filled) == {name: raw for name, raw in before.items() if name not in repaired.dropped}


def test_means_are_made_again_from_tokens(filled):
    """What is damaged is only what can be derived: no document is lost."""
    before = contents(filled)
    flip(filled / "vectors" / "000001.f32", 5)
    repaired = repair_collection(filled)
    assert (repaired.dropped, repaired.after.ok) == ((), True)
    assert contents(filled) == before


def test_a_torn_file_of_tokens_is_reported(filled):
    path = filled / "tokens" / "000001.f16"
    path.write_bytes(path.read_bytes()[:-7])
    assert not verify_collection(filled).ok
    with pytest.raises(CollectionError, match="restore it from a backup"):
        open_collection(filled, mode="write", encoder=IDENTITY)
    repaired = repair_collection(filled)
    assert set(repaired.dropped) == {f"d{n}" for n in range(30, 40)}


def test_what_a_killed_writer_left_is_cut_off(filled):
    before = contents(filled)
    with (filled / "tokens" / "000001.f16").open("ab") as file:
        file.write(b"torn")
    (filled / "tokens" / "000009.f16").write_bytes(b"of a compaction")
    open_collection(filled, mode="write", encoder=IDENTITY).close()
    assert not (filled / "tokens" / "000009.f16").exists()
    assert (filled / "tokens" / "000001.f16").stat().st_size % (2 * DIM) == 0
    assert contents(filled) == before
    assert verify_collection(filled).ok


@pytest.mark.parametrize("name", ["copy", "copy.tar"])
def test_snapshots_have_the_tokens(filled, tmp_path, name):
    take_snapshot(filled, tmp_path / name)
    restore_collection(tmp_path / name, tmp_path / "back")
    assert contents(tmp_path / "back") == contents(filled)
    assert verify_collection(tmp_path / "back").ok


def test_export_and_import(filled, tmp_path):
    with closing(open_collection(filled)) as opened:
        export_collection(opened, tmp_path / "out", rows=640)
    with closing(open_collection(tmp_path / "back", mode="create", encoder=IDENTITY)) as back:
        assert import_collection(tmp_path / "out", back).imported == 40
        assert import_collection(tmp_path / "out", back).unchanged == 40
        assert back.verify().ok
    assert contents(tmp_path / "back") == contents(filled)
    single = EncoderIdentity(IDENTITY.spec, IDENTITY.fingerprint, DIM)
    with (
        closing(open_collection(tmp_path / "other", mode="create", encoder=single)) as other,
        pytest.raises(EncoderMismatch),
    ):
        import_collection(tmp_path / "out", other)


def test_copying_between_kinds(filled, location, tmp_path):
    with (
        closing(open_collection(filled)) as origin,
        closing(open_collection(location, mode="create", encoder=IDENTITY)) as goal,
        closing(open_collection(tmp_path / "again", mode="create", encoder=IDENTITY)) as again,
    ):
        assert copy_collection(origin, goal).copied == 40
        assert copy_collection(goal, again).copied == 40
    assert contents(tmp_path / "again") == contents(filled)


def test_duplicates_are_those_of_equal_means(filled):
    with closing(open_collection(filled, mode="write")) as writer:
        found = writer.vectors(["d3"])["d3"]
        writer.upsert([Document("again", Content.of("other words"))], [found[::-1].copy()])
        groups = find_duplicates(writer, threshold=0.999).groups
    assert [group.ids for group in groups] == [("d3", "again")]


def test_an_older_version_refuses_it(filled, monkeypatch):
    monkeypatch.setattr(manifest, "FORMAT_VERSION", 1)
    with pytest.raises(FormatTooNew):
        open_collection(filled)


def test_candidates_are_measured_used_and_forgotten(tmp_path, documents):
    chance = np.random.default_rng(0)
    topics = chance.standard_normal((300, DIM)).astype(np.float32)
    near = [topic + 0.3 * chance.standard_normal((12, DIM)).astype(np.float32) for topic in topics]
    matrices = [matrix / np.linalg.norm(matrix, axis=1, keepdims=True) for matrix in near]
    queries = [matrix[:4] for matrix in matrices[:40]]
    with closing(open_collection(tmp_path / "c", mode="create", encoder=IDENTITY)) as collection:
        collection.upsert(documents(range(300)), matrices)
        exact = [[hit.id for hit in collection.search(query, 10)] for query in queries]
        found = collection.tune_tokens(queries, recall=0.9)
        assert found is not None
        assert found.recall >= 0.9
        assert found.depth < 150
        asked = collection.info().index
        assert (asked.kind, asked.recall, asked.measured_on) == ("candidates", found.recall, "queries")
        hits = [[hit.id for hit in collection.search(query, 10)] for query in queries]
        share = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, hits, strict=True)])
        assert share == pytest.approx(found.recall, abs=1e-6)
        # Never what is filtered out, and scores as ever.
        only = collection.search(queries[0], 10, filter="n < 12", exclude=["d0"])
        assert {hit.id for hit in only} <= {f"d{n}" for n in range(1, 12)}
        one = collection.search(queries[0], 1)[0]
        assert one.score == np.float32(exact_maxsim(queries[0], matrices[int(one.id[1:])].astype(np.float16)))
        with pytest.raises(InputError, match="recall"):
            collection.tune_tokens(queries, recall=1.5)
        with pytest.raises(InputError, match="sample queries"):
            collection.tune_tokens([])
    with closing(open_collection(tmp_path / "c")) as reader:
        assert [hit.id for hit in reader.search(queries[0], 10)] == hits[0]
        with pytest.raises(CollectionError, match="reading only"):
            reader.search_exactly()
    (tmp_path / "c" / "ann" / "tokens.json").write_bytes(b"{}")
    with closing(open_collection(tmp_path / "c", mode="write")) as collection:
        assert [[hit.id for hit in collection.search(query, 10)] for query in queries] == exact
        collection.search_exactly()
        assert collection.info().index.kind == "exact"
        assert collection.tune_tokens(tokens(20, seed=4), recall=1.0) is None


def test_the_mean_of_vectors_that_cancel_out_is_one_of_them():
    one = np.eye(1, DIM, dtype=np.float32)
    np.testing.assert_array_equal(mean_of(np.concatenate([0 * one, one, -one])), one[0])
