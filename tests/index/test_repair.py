"""What can be repaired is, nothing good is lost, and what is left out is listed and kept."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3

import pytest

from mmseek import Content, Document, Image
from mmseek.errors import CollectionError, CollectionLocked, CorruptCollection, NotACollection
from mmseek.index import open_collection, repair_collection, verify_collection

FILES = ["mmseek.json", "head.json", "documents.sqlite", "vectors/000002.f32", "vectors/000003.f32", "assets"]


@pytest.fixture
def folder(tmp_path, identity, documents, vectors):
    """Several blocks in two segments, with dead rows, pictures, and a clean close."""
    place = tmp_path / "collection"
    with open_collection(place, mode="create", encoder=identity) as made:
        made.upsert(documents(range(40)), vectors(40), [f"h{n}" for n in range(40)])
        made.delete(["d3"])
        made.compact()
        made._tail = (made._tail[0] + 1, 0)
        pictures = [Document(f"p{n}", Content((Image(data=b"\x89PNG\r\n\x1a\n%d" % n),))) for n in range(3)]
        made.upsert(pictures, vectors(3, seed=1), ["hp"] * 3)
        made.upsert(documents([5, 50]), vectors(2, seed=2), ["h5", "h50"])
    return place


def contents(folder):
    with open_collection(folder) as opened:
        return {
            document.id: (document, vector.tobytes(), digest)
            for batch in opened.export(16)
            for document, vector, digest in zip(batch.documents, batch.vectors, batch.digests, strict=True)
        }


def damage(folder, sql):
    connection = sqlite3.connect(folder / "documents.sqlite")
    connection.execute(sql)
    connection.commit()
    connection.close()


def check(folder, before, *, dropped=()):
    """After a repair: sound, writable, all good documents as they were, and exactly these left out."""
    assert verify_collection(folder).ok
    after = contents(folder)
    assert set(before) - set(after) == set(dropped)
    assert all(after[name] == before[name] for name in after)
    with open_collection(folder, mode="write") as writer:
        assert writer.search_text("text", 100)
        assert writer.info().created_at


def test_a_sound_collection_is_left_alone(folder):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    report = repair_collection(folder)
    assert (report.problems, report.done, report.dropped, report.kept) == ((), (), (), None)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_in_each_file(folder, tmp_path, name):
    before, chance = contents(folder), random.Random(name)
    for number in range(6):
        place = tmp_path / f"damaged{number}"
        shutil.copytree(folder, place)
        path = place / name
        path = path if path.is_file() else next(path.rglob("*.png"))
        whole = bytearray(path.read_bytes())
        whole[chance.randrange(min(len(whole), 150) if path.suffix == ".json" else len(whole))] ^= (
            1 << chance.randrange(8)
        )
        path.write_bytes(whole)
        try:
            report = repair_collection(place)
        except CollectionError:
            report = None
        if report is None:  # then nothing was changed
            assert name in {"mmseek.json", "documents.sqlite"}
            assert path.read_bytes() == whole
            continue
        assert report.problems
        assert report.after.ok, report.after.problems
        check(place, before, dropped=report.dropped)
        if report.kept is not None:
            kept = (report.kept / "dropped.jsonl").read_text() + (report.kept / "lost.jsonl").read_text()
            assert {json.loads(line)["id"] for line in kept.splitlines()} == set(report.dropped)
            assert (report.kept / path.relative_to(place)).read_bytes() == whole
        assert report.kept is not None or not report.dropped


def test_a_manifest_that_is_gone_or_damaged(folder):
    before = contents(folder)
    for ruin in (lambda path: path.unlink(), lambda path: path.write_text("{")):
        ruin(folder / "mmseek.json")
        assert repair_collection(folder).after.ok
        check(folder, before)


def test_a_lost_head(folder):
    before = contents(folder)
    (folder / "head.json").unlink()
    report = repair_collection(folder)
    assert report.kept is None
    assert "built anew" in report.done[0]
    check(folder, before)


@pytest.mark.parametrize("sql", ["DROP TABLE words", "INSERT INTO words (words) VALUES ('delete-all')"])
def test_a_lost_index_of_words(folder, sql):
    before = contents(folder)
    damage(folder, sql)
    repair_collection(folder)
    check(folder, before)
    with open_collection(folder) as opened:
        assert opened.search_text("7", 5)[0].id == "d7"


def test_a_lost_index_of_sqlite(folder):
    before = contents(folder)
    damage(folder, "PRAGMA writable_schema = ON")
    connection = sqlite3.connect(folder / "documents.sqlite")
    connection.executescript(
        "PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'documents_modality'; VACUUM;"
    )
    connection.close()
    repair_collection(folder)
    check(folder, before)


def test_a_torn_last_segment(folder):
    before = contents(folder)
    segment = folder / "vectors" / "000003.f32"
    segment.write_bytes(segment.read_bytes()[:-10])
    report = repair_collection(folder)
    assert set(report.dropped) == {"d5", "d50"}  # those of the last call; the pictures before them are whole
    check(folder, before, dropped={"d5", "d50"})


def test_what_was_dropped_comes_back_when_its_list_is_indexed(folder, vectors):
    from mmseek.index.corpus import read_corpus

    before = contents(folder)
    segment = folder / "vectors" / "000003.f32"
    segment.write_bytes(b"\x01" + segment.read_bytes()[1:])  # the pictures' block
    report = repair_collection(folder)
    assert set(report.dropped) == {"p0", "p1", "p2"}
    items = list(read_corpus([report.kept / "dropped.jsonl"]))
    assert [item.id for item in items] == ["p0", "p1", "p2"]
    for item in items:
        (picture,) = item.content.images
        assert picture.path.read_bytes() == before[item.id][0].content.images[0].data


@pytest.mark.parametrize(
    ("sql", "dropped"),
    [
        ("UPDATE documents SET item = replace(item, 'text 7', 'text 6') WHERE id = 'd7'", {"d7"}),
        ("UPDATE documents SET digest = 'other' WHERE id = 'd7'", {"d7"}),
        ("UPDATE documents SET item = 7 WHERE id = 'd7'", {"d7"}),
        ("UPDATE vectors SET died = 1 WHERE row = (SELECT row FROM documents WHERE id = 'd50')", {"d50"}),
        ("UPDATE vectors SET segment = 9 WHERE row = (SELECT row FROM documents WHERE id = 'd50')", {"d5", "d50"}),
        ("UPDATE blocks SET checksum = zeroblob(16) WHERE segment = 3 AND start > 0", {"d5", "d50"}),
        ("DELETE FROM blocks WHERE segment = 3 AND start > 0", {"d5", "d50"}),
        ("UPDATE meta SET value = 'x' WHERE key = 'generation'", set()),
        ("DELETE FROM meta", set()),
    ],
)
def test_a_damaged_row(folder, sql, dropped):
    before = contents(folder)
    damage(folder, sql)
    report = repair_collection(folder)
    assert set(report.dropped) == dropped
    check(folder, before, dropped=dropped)


def test_swapped_places_are_not_believed(folder):
    """Each place is there once, so nothing but the order of writing tells that two vectors belong to others."""
    before = contents(folder)
    damage(
        folder,
        "UPDATE vectors SET position = 7 - position WHERE segment = 3 AND position IN (3, 4)",
    )
    damage(folder, "UPDATE documents SET digest = 'x' WHERE id = 'd7'")  # so that there is a repair
    report = repair_collection(folder)
    assert set(report.dropped) == {"d5", "d50", "d7"}
    check(folder, before, dropped=report.dropped)


def test_lost_changes_are_said(folder, tmp_path, documents, vectors):
    writer = open_collection(folder, mode="write")
    writer.upsert(documents([60]), vectors(1, seed=6))
    killed = tmp_path / "killed"
    shutil.copytree(folder, killed)
    writer.close()
    (killed / "documents.sqlite-wal").unlink()
    report = repair_collection(killed)
    assert any("1 acknowledged changes are lost" in line for line in report.done)
    assert report.kept is not None
    assert report.after.ok


def test_a_lost_ledger_cannot_be_repaired(folder):
    (folder / "documents.sqlite").unlink()
    before = {path for path in folder.rglob("*") if path.name != "LOCK"}
    with pytest.raises(CorruptCollection, match="restore a snapshot"):
        repair_collection(folder)
    assert {path for path in folder.rglob("*") if path.name != "LOCK"} == before


def test_what_is_no_collection_is_not_touched(tmp_path):
    for place in (tmp_path / "absent", tmp_path):
        with pytest.raises(NotACollection):
            repair_collection(place)
    assert list(tmp_path.iterdir()) == []


def test_not_while_a_writer_writes(folder):
    (folder / "head.json").unlink()
    with open_collection(folder, mode="write"):
        (folder / "head.json").unlink(missing_ok=True)
        with pytest.raises(CollectionLocked):
            repair_collection(folder)


def test_a_repair_that_was_killed_before_its_last_rename(folder, tmp_path):
    before = contents(folder)
    shutil.copytree(folder, tmp_path / "collection.repaired")
    folder.rename(tmp_path / "collection.damaged")
    assert repair_collection(folder).after.ok
    check(folder, before)
