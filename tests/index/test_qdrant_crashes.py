"""Qdrant's engine killed at any instant: the collection opens, is sound, and has everything that was acknowledged."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time

import pytest

from mmseek.errors import CollectionLocked, CorruptCollection, NotACollection, StorageError
from mmseek.index import open_collection
from mmseek.index.qdrant import edge

HOLDER = """
import sys
from mmseek.index import open_collection
held = open_collection(sys.argv[1])
print("open", flush=True)
input()
"""


def acknowledged(output):
    """What was stored for good. A batch's first document is taken out for a moment after that."""
    stored = [line.split()[1:] for line in output.splitlines() if line.startswith("stored")]
    last = {int(stored[-1][0])} if stored else set()
    return {int(n) for batch in stored for n in batch} - last


def check_state(place, stored):
    with open_collection(place) as collection:
        report = collection.verify()
        assert report.problems == ()
        found = [document.id for document in collection.documents()]
        assert len(set(found)) == len(found) == report.documents == report.vectors
        digests = collection.digests(found)
        assert all(digests[f"d{n}"] == f"h{n}" for n in stored)
        if found:
            assert len(collection.search_text("text", 1000)) == len(found)
    return len(found)


@pytest.mark.slow
def test_kill_at_random_instants(forks, tmp_path):
    chance = random.Random(11)
    folder, stored, counts = tmp_path / "edge", set(), set()
    place, writers = f"qdrant-edge:{folder}", forks("writer_program")
    for number in range(9):
        writer = writers.start(place)
        heard = "".join(writer.stdout.readline() for _ in range(chance.randint(1, 5) if number % 4 else 0))
        time.sleep(chance.uniform(0.0, 0.06 if number % 4 else 1.0))
        writer.kill()
        _, rest, complaint = writer.end()
        assert complaint == ""
        stored |= acknowledged(heard + rest)
        if (folder / edge.MARK).exists():
            counts.add(check_state(place, stored))
            if max(counts) >= 100:  # begin anew, so that all hit a writer at work
                shutil.rmtree(folder)
                stored = set()
        else:
            with pytest.raises(NotACollection):
                open_collection(place)
    assert len(counts) > 3, "the writer was always killed at the same place"
    _, output, complaint = writers.start(place).end()
    assert (complaint, output.endswith("done\n")) == ("", True)
    with open_collection(place) as collection:
        assert sorted(document.id for document in collection.documents()) == sorted(f"d{n}" for n in range(120))
        assert collection.verify().ok


@pytest.fixture
def place(tmp_path, identity, documents, vectors):
    with open_collection(f"qdrant-edge:{tmp_path / 'edge'}", mode="create", encoder=identity) as collection:
        collection.upsert(documents(range(20)), vectors(20))
    return f"qdrant-edge:{tmp_path / 'edge'}"


def test_what_a_killed_maker_left_is_made_anew(tmp_path, place, identity):
    (tmp_path / "edge" / edge.MARK).unlink()
    with pytest.raises(NotACollection):
        open_collection(place)
    with open_collection(place, mode="create", encoder=identity) as made:
        assert made.info().documents == 0


def test_another_process_has_it(tmp_path, place):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(CollectionLocked, match=f"process {other.pid} on host"):
            open_collection(place)
        other.communicate("\n")
    open_collection(place).close()


def test_two_writers_in_one_process(place, identity):
    first = open_collection(place, mode="write")
    reader = open_collection(place)
    with pytest.raises(CollectionLocked, match="this process"):
        open_collection(place, mode="write")
    first.close()
    second = open_collection(place, mode="write")
    second.delete(["d1"])
    assert reader.info().documents == 19
    reader.close()
    assert second.info().documents == 19
    second.close()


def test_a_full_disk_stores_nothing(place, documents, vectors, monkeypatch):
    with open_collection(place, mode="write") as writer:
        usual = shutil.disk_usage
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usual(path)._replace(free=1000))
        with pytest.raises(StorageError, match="disk is full"):
            writer.upsert(documents([50]), vectors(1))
        monkeypatch.undo()
        assert writer.info().documents == 20
        writer.upsert(documents([50]), vectors(1))
        assert writer.verify().ok


def test_damage_is_told_in_one_sentence(tmp_path, place):
    for path in (tmp_path / "edge" / "shard" / "segments").rglob("segment.json"):
        path.write_text("{")
    with pytest.raises((CorruptCollection, StorageError)) as caught:
        open_collection(place)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_folder_with_other_things_is_left_alone(tmp_path, identity):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "letter.txt").write_text("dear")
    for mode in ("write", "create"):
        with pytest.raises(NotACollection, match=r"letter\.txt"):
            open_collection(f"qdrant-edge:{tmp_path / 'x'}", mode=mode, encoder=identity)
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["letter.txt"]


def test_the_mark_says_what_it_is(tmp_path, place):
    assert json.loads((tmp_path / "edge" / edge.MARK).read_text())["format"] == "mmseek-qdrant-edge"
    with pytest.raises(NotACollection, match="write qdrant-edge:"):
        open_collection(tmp_path / "edge")
