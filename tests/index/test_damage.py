"""A flipped bit in any file is reported as a sentence; nothing crashes over it."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3

import pytest

from mmseek import Content, Document, Image
from mmseek.errors import (
    CollectionError,
    CollectionLocked,
    CorruptCollection,
    FormatTooNew,
    InputError,
    MmseekError,
    NotACollection,
    SpecError,
)
from mmseek.index import open_collection, verify_collection


@pytest.fixture
def folder(tmp_path, identity, documents, vectors):
    """A collection of two segments with dead rows, pictures, and a clean close."""
    place = tmp_path / "collection"
    made = open_collection(place, mode="create", encoder=identity)
    made.upsert(documents(range(40)), vectors(40), ["hash"] * 40)
    made.delete(["d3"])
    made.compact()
    made._tail = (made._tail[0] + 1, 0)
    pictures = [Document(f"p{n}", Content((Image(data=b"\x89PNG\r\n\x1a\n%d" % n),))) for n in range(3)]
    made.upsert(pictures + documents([5]), vectors(4, seed=1))
    made.close()
    return place


def flip(path, position, bit):
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def problems_of(folder):
    try:
        report = verify_collection(folder)
    except FormatTooNew as error:
        return (str(error),)
    assert all(isinstance(problem, str) and "\n" not in problem for problem in report.problems)
    return report.problems


def test_a_sound_collection_has_no_problems(folder):
    report = verify_collection(folder)
    assert report.problems == ()
    assert report.documents == report.vectors == 42


@pytest.mark.parametrize(
    "name", ["mmseek.json", "head.json", "documents.sqlite", "vectors/000002.f32", "vectors/000003.f32", "assets"]
)
def test_a_flipped_bit_anywhere_in_a_file(folder, name):
    path = folder / name
    path = path if path.is_file() else next(path.rglob("*.png"))
    whole, chance = path.read_bytes(), random.Random(name)
    places = {chance.randrange(len(whole)) for _ in range(40)} | set(range(0, min(100, len(whole)), 5))
    for position in sorted(places):
        flip(path, position, chance.randrange(8))
        assert problems_of(folder), f"byte {position}"
        path.write_bytes(whole)
    assert not problems_of(folder)


def test_a_flipped_bit_is_found_in_a_ledger_without_a_seal(folder):
    """As after a crash: then the hash of the whole file says nothing, and each row must speak for itself."""
    path = folder / "documents.sqlite"
    for sql in (
        "UPDATE documents SET item = replace(item, 'text 7', 'text 6') WHERE id = 'd7'",
        "UPDATE documents SET id = 'dx' WHERE id = 'd7'",
        "UPDATE documents SET digest = 'other' WHERE id = 'd7'",
        "UPDATE documents SET parent_id = 'd1' WHERE id = 'd7'",
        "UPDATE documents SET checksum = zeroblob(16) WHERE id = 'd7'",
        "UPDATE documents SET item = 7 WHERE id = 'd7'",
        "DELETE FROM documents WHERE id = 'd7'",
        "DELETE FROM vectors WHERE row = (SELECT row FROM documents WHERE id = 'd7')",
        "UPDATE vectors SET position = 1000 WHERE row = (SELECT row FROM documents WHERE id = 'd7')",
        "UPDATE vectors SET position = 0 WHERE row = (SELECT row FROM documents WHERE id = 'd7')",
        "UPDATE vectors SET segment = 9 WHERE row = (SELECT row FROM documents WHERE id = 'd7')",
        "UPDATE vectors SET died = 1 WHERE row = (SELECT row FROM documents WHERE id = 'd7')",
        "UPDATE vectors SET died = 1000 WHERE died IS NOT NULL",
        "UPDATE blocks SET rows = rows + 1",
        "UPDATE blocks SET rows = 1 << 60",
        "UPDATE blocks SET start = start + 1",
        "UPDATE blocks SET checksum = zeroblob(16)",
        "DELETE FROM blocks",
        "UPDATE meta SET value = 1 WHERE key = 'next_row'",
        "UPDATE meta SET value = 0 WHERE key = 'generation'",
        "UPDATE meta SET value = 'x' WHERE key = 'generation'",
        "DELETE FROM meta",
        "DROP TABLE vectors",
    ):
        whole = path.read_bytes()
        connection = sqlite3.connect(path)
        connection.execute(sql)
        connection.execute(
            "UPDATE meta SET value = value + 1 WHERE key = 'generation' AND typeof(value) = 'integer' AND value > 0"
        )
        connection.commit()
        connection.close()
        assert problems_of(folder), sql
        path.write_bytes(whole)
    assert not problems_of(folder)


def test_a_damaged_log_is_found(folder, tmp_path, documents, vectors):
    """SQLite drops what follows a damaged frame of its log; the head knows that it was acknowledged."""
    writer = open_collection(folder, mode="write")
    for n in range(100, 110):
        writer.upsert(documents([n]), vectors(1, seed=n))
    killed = tmp_path / "killed"
    shutil.copytree(folder, killed)
    expected = {document.id for document in writer.documents()}
    writer.close()
    whole, chance = (killed / "documents.sqlite-wal").read_bytes(), random.Random(1)
    lost = 0
    last_frame = len(whole) - 2000
    for position in [0, 8, 20, 30, last_frame, *(chance.randrange(len(whole)) for _ in range(25))]:
        work = tmp_path / f"work{position}"
        shutil.copytree(killed, work)
        (work / "documents.sqlite-shm").unlink()
        flip(work / "documents.sqlite-wal", position, chance.randrange(8))
        reader = open_collection(work)
        complete = {document.id for document in reader.documents()} == expected
        lost += not complete
        assert reader.verify().ok == complete
        reader.close()
    assert lost > 10


@pytest.mark.parametrize("name", ["documents.sqlite", "vectors/000002.f32", "head.json", "assets"])
def test_a_missing_file(folder, name, vectors):
    path = folder / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert problems_of(folder)


@pytest.mark.parametrize("name", ["documents.sqlite", "vectors/000002.f32"])
@pytest.mark.parametrize("length", [0, 100])
def test_a_file_cut_short(folder, name, length, vectors):
    path = folder / name
    path.write_bytes(path.read_bytes()[:length])
    assert problems_of(folder)
    with pytest.raises(CorruptCollection), open_collection(folder) as reader:
        reader.search(vectors(1)[0], 3)
    with pytest.raises(CorruptCollection):
        open_collection(folder, mode="write")
    with pytest.raises(CorruptCollection):  # and not CollectionLocked
        open_collection(folder, mode="write")


def test_damaged_vectors_are_not_compacted(folder):
    flip(folder / "vectors" / "000002.f32", 100, 3)
    with open_collection(folder, mode="write") as writer:
        writer.delete(["d20"])
        with pytest.raises(CorruptCollection):
            writer.compact()
    assert any("000002.f32" in problem for problem in problems_of(folder))


def test_a_newer_format_is_refused_by_both_versions(folder, identity):
    manifest = json.loads((folder / "mmseek.json").read_text())
    manifest["format_version"] = 7
    (folder / "mmseek.json").write_text(json.dumps(manifest))
    for mode in ("read", "write"):
        with pytest.raises(FormatTooNew, match=r"version 7 .* up to 2"):
            open_collection(folder, mode=mode, encoder=identity)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[1]", b"nonsense", b"\xff\xfe", b"[" * 100_000, b'{"format": "other"}']
)
def test_a_manifest_that_is_none(folder, content):
    (folder / "mmseek.json").write_bytes(content)
    with pytest.raises((CorruptCollection, NotACollection), match=r"mmseek\.json"):
        open_collection(folder)


def test_foreign_folders_are_left_alone(tmp_path, identity):
    foreign = tmp_path / "photos"
    (foreign / "assets").mkdir(parents=True)
    (foreign / "assets" / "me.jpg").write_bytes(b"mine")
    before = sorted(foreign.rglob("*"))
    for mode in ("read", "write", "create"):
        with pytest.raises(NotACollection, match="photos"):
            open_collection(foreign, mode=mode, encoder=identity)
    assert sorted(foreign.rglob("*")) == before
    file = tmp_path / "file"
    file.write_text("text")
    for mode in ("read", "write", "create"):
        with pytest.raises(NotACollection, match="is a file"):
            open_collection(file, mode=mode, encoder=identity)
    assert not (tmp_path / "absent").exists()
    with pytest.raises(NotACollection, match="does not exist"):
        open_collection(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_a_collection_without_its_manifest_is_not_overwritten(folder, identity):
    (folder / "mmseek.json").unlink()
    for mode in ("read", "write", "create"):
        with pytest.raises(NotACollection):
            open_collection(folder, mode=mode, encoder=identity)
    assert (folder / "vectors" / "000002.f32").exists()


def test_a_fresh_volume_may_become_a_collection(tmp_path, identity):
    (tmp_path / "lost+found").mkdir()
    open_collection(tmp_path, mode="create", encoder=identity).close()
    assert verify_collection(tmp_path).ok


@pytest.mark.parametrize("location", ["weaviate://host:1/name", "s3://bucket/x"])
def test_other_kinds_of_location(location, identity):
    with pytest.raises(SpecError, match="://"):
        open_collection(location, mode="write", encoder=identity)


def test_bad_words(tmp_path, identity):
    with pytest.raises(InputError, match="opened to read"):
        open_collection(tmp_path / "c", mode="rw")
    with pytest.raises(InputError, match="empty"):
        open_collection("")


def test_a_second_writer_is_told_who_is_first(folder, documents, vectors):
    import os

    first = open_collection(folder, mode="write")
    with pytest.raises(CollectionLocked, match=f"process {os.getpid()} on host "):
        open_collection(folder, mode="write")
    with pytest.raises(CollectionLocked):
        open_collection(folder, mode="write")
    first.upsert(documents([77]), vectors(1))
    first.close()
    open_collection(folder, mode="write").close()


def test_errors_are_one_sentence(folder, tmp_path):
    (folder / "documents.sqlite").write_bytes(b"SQLite format 3\x00" + b"\x07" * 5000)
    with pytest.raises(MmseekError) as caught:
        open_collection(folder)
    assert isinstance(caught.value, CollectionError)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
