"""Killed at any step, a snapshot, export, import or repair leaves all or nothing, and is done by running it again."""

from __future__ import annotations

import random
import shutil
import signal

import numpy as np
import pytest

from mmseek import Content, Document, EncoderIdentity, Image
from mmseek.index import open_collection, repair_collection, take_snapshot, verify_collection
from mmseek.index.exchange import export_collection, import_collection, read_export

IDENTITY = EncoderIdentity("mini", "f" * 64, 8)
KILLS = 4


@pytest.fixture
def start(forks):
    return forks("copying_program").start


@pytest.fixture
def killed(start):
    def run(what, source, target, step):
        """Run until the step; False if it ended before it."""
        done = start(what, source, target, step).end()
        assert done.status in (0, -signal.SIGKILL), done.complaint
        return done.status != 0

    return run


def contents(place):
    with open_collection(place) as opened:
        return {
            document.id: (document.content, vector.tobytes(), digest)
            for batch in opened.export(16)
            for document, vector, digest in zip(batch.documents, batch.vectors, batch.digests, strict=True)
        }


def steps(what, ends):
    """Steps that are spread over all of the work and drawn anew for each kind of it."""
    chance = random.Random(what)
    return sorted(chance.sample(range(1, ends), KILLS))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    place = tmp_path_factory.mktemp("source") / "collection"
    with open_collection(place, mode="create", encoder=IDENTITY) as made:
        for start in range(0, 40, 10):
            batch = [Document(f"d{n}", Content.of(f"text {n}")) for n in range(start, start + 9)]
            batch.append(Document(f"p{start}", Content((Image(data=b"\x89PNG\r\n\x1a\n%d" % start),))))
            made.upsert(batch, np.random.default_rng(start).standard_normal((10, 8)), [f"h{start}"] * 10)
    return place


@pytest.mark.slow
@pytest.mark.parametrize("name", ["copy", "copy.tar"])
def test_snapshot(killed, source, tmp_path, name):
    target, died = tmp_path / name, 0
    for step in steps(name, 24):
        died += killed("snapshot", source, target, step)
        if target.is_dir():
            assert contents(target) == contents(source)
            shutil.rmtree(target)
        target.unlink(missing_ok=True)
    assert died > 1
    take_snapshot(source, target)
    assert {path.name for path in tmp_path.iterdir()} == {name}
    assert verify_collection(source).ok


@pytest.mark.slow
def test_export(killed, source, tmp_path):
    target, died = tmp_path / "export", 0
    for step in steps("export", 24):
        died += killed("export", source, target, step)
        if target.exists():
            assert read_export(target).documents == 40
            shutil.rmtree(target)
    assert died > 1
    with open_collection(source) as collection:
        export_collection(collection, target)
    assert {path.name for path in tmp_path.iterdir()} == {"export"}


@pytest.mark.slow
def test_import(killed, source, tmp_path):
    with open_collection(source) as collection:
        export_collection(collection, tmp_path / "export", rows=16)
    target, died, seen = tmp_path / "target", 0, set()
    for step in steps("import", 24):
        died += killed("import", tmp_path / "export", target, step)
        if (target / "mmseek.json").exists():
            assert verify_collection(target).ok
            seen.add(len(contents(target)))
            assert contents(target).items() <= contents(source).items()
    assert died > 1
    with open_collection(target, mode="write", encoder=IDENTITY) as collection:
        import_collection(tmp_path / "export", collection)
    assert contents(target) == contents(source)


@pytest.mark.slow
def test_repair(killed, source, tmp_path):
    died = 0
    for step in steps("repair", 40):
        place = tmp_path / str(step) / "collection"
        shutil.copytree(source, place)
        segment = place / "vectors" / "000001.f32"
        segment.write_bytes(b"\x01" + segment.read_bytes()[1:])
        died += killed("repair", place, place, step)
        repair_collection(place)
        assert verify_collection(place).ok
        good = {name: held for name, held in contents(source).items() if held[2] != "h0"}
        assert contents(place) == good
        (kept,) = place.parent.glob("collection.damaged-*")  # one, whichever run it was that ended
        assert len((kept / "dropped.jsonl").read_text().splitlines()) == 10
    assert died > 1


@pytest.mark.slow
def test_a_snapshot_killed_at_any_instant_while_a_writer_writes(start, source, tmp_path):
    chance = random.Random(5)
    place = tmp_path / "collection"
    shutil.copytree(source, place)
    with open_collection(place, mode="write") as writer:
        for number in range(4):
            program = start("snapshot", place, tmp_path / "copy", 1_000_000)
            for n in range(chance.randrange(5, 40)):
                batch = [Document(f"n{n}", Content.of(f"new {number}"))]
                writer.upsert(batch, np.ones((1, 8), dtype=np.float32))
            program.kill()
            program.end()
            if (tmp_path / "copy").exists():
                assert verify_collection(tmp_path / "copy").ok
                shutil.rmtree(tmp_path / "copy")
            assert writer.verify().ok
        take_snapshot(place, tmp_path / "copy")
        assert contents(tmp_path / "copy") == contents(place)
