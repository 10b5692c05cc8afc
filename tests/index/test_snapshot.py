"""A copy of a collection while it is written to: whole, of one state, and a collection itself."""

from __future__ import annotations

import errno
import io
import itertools
import os
import tarfile
import threading
import time

import numpy as np
import pytest

from mmseek import Content, Document, Image
from mmseek.errors import CorruptCollection, InputError, NotACollection, StorageError
from mmseek.index import open_collection, restore_collection, take_snapshot, verify_collection

GROUP = 20


@pytest.fixture
def folder(tmp_path, identity, documents, vectors):
    place = tmp_path / "collection"
    with open_collection(place, mode="create", encoder=identity) as made:
        made.upsert(documents(range(30)), vectors(30), ["hash"] * 30)
        made.delete(["d3"])
        made.upsert([Document("p", Content((Image(data=b"\x89PNG\r\n\x1a\n1"),)))], vectors(1, seed=1))
    return place


def contents(place):
    with open_collection(place) as opened:
        return [
            (document, vector.tobytes(), digest)
            for batch in opened.export(8)
            for document, vector, digest in zip(batch.documents, batch.vectors, batch.digests, strict=True)
        ]


@pytest.mark.parametrize("name", ["copy", "copy.tar"])
def test_a_snapshot_is_an_equal_collection(folder, tmp_path, name, documents, vectors):
    report = take_snapshot(folder, tmp_path / name)
    assert report.documents == 30
    place = tmp_path / name
    if name.endswith(".tar"):
        place = tmp_path / "restored"
        restore_collection(tmp_path / name, place)
    assert verify_collection(place).ok
    assert contents(place) == contents(folder)
    with open_collection(place, mode="write") as writer:  # its own: the source does not change with it
        writer.upsert(documents([99]), vectors(1, seed=3))
        writer.compact()
    assert len(contents(folder)) == 30
    assert verify_collection(folder).ok
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"collection", name, place.name}


def test_a_snapshot_of_a_snapshot_restores(folder, tmp_path):
    take_snapshot(folder, tmp_path / "copy")
    restore_collection(tmp_path / "copy", tmp_path / "again")
    assert contents(tmp_path / "again") == contents(folder)


def test_snapshots_while_a_writer_writes_and_compacts(tmp_path, identity):
    place, stop, problems = tmp_path / "collection", threading.Event(), []
    writer = open_collection(place, mode="create", encoder=identity)

    def store(version):
        pictures = [Image(data=b"\x89PNG\r\n\x1a\n%d %d" % (version, n)) for n in range(GROUP)]
        batch = [Document(f"g{n}", Content((pictures[n],)), {"version": version}) for n in range(GROUP)]
        writer.upsert(batch, np.random.default_rng(version).standard_normal((GROUP, identity.dim)))

    def write():
        try:
            for version in itertools.count(1):
                store(version)
                if version % 5 == 0:
                    writer.compact()
                if stop.is_set():
                    return
        except BaseException as error:  # noqa: BLE001  # told to the test
            problems.append(error)

    store(0)
    thread = threading.Thread(target=write)
    thread.start()
    versions, number, end = [], 0, time.monotonic() + 240
    try:
        while (number < 6 or len(set(versions)) < 2) and not problems and time.monotonic() < end:
            number += 1
            try:
                take_snapshot(place, tmp_path / str(number))
            except CorruptCollection:  # pictures that compactions took away, three times in a row
                assert not (tmp_path / str(number)).exists()
                continue
            with open_collection(tmp_path / str(number)) as copy:
                found = next(iter(copy.export(100)))
                assert copy.verify().ok
            assert len(found) == GROUP
            (version,) = {document.metadata["version"] for document in found.documents}
            expected = np.random.default_rng(version).standard_normal((GROUP, identity.dim)).astype(np.float32)
            np.testing.assert_array_equal(found.vectors, expected)
            versions.append(version)
    finally:
        stop.set()
        thread.join()
        writer.close()
    assert not problems
    assert versions == sorted(versions)
    assert len(set(versions)) > 1


def test_nothing_is_written_over(folder, tmp_path):
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine.txt").write_text("mine")
    for target in (taken, tmp_path / "taken.tar"):
        (tmp_path / "taken.tar").write_text("mine")
        with pytest.raises(InputError, match="exists already"):
            take_snapshot(folder, target)
    assert (taken / "mine.txt").read_text() == "mine"


def test_a_damaged_collection_is_not_copied(folder, tmp_path):
    segment = folder / "vectors" / "000001.f32"
    segment.write_bytes(b"\xff" + segment.read_bytes()[1:])
    with pytest.raises(CorruptCollection, match="checksum"):
        take_snapshot(folder, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    assert not (tmp_path / "copy.partial").exists()


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "vectors/../../evil", "assets/ab/x.png", "evil.txt"])
def test_a_tar_with_other_files_is_refused(tmp_path, name):
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        member = tarfile.TarInfo(name)
        member.size = 4
        archive.addfile(member, io.BytesIO(b"evil"))
    with pytest.raises(NotACollection, match="which no snapshot has"):
        restore_collection(tmp_path / "bad.tar", tmp_path / "restored")
    assert {path.name for path in tmp_path.iterdir()} == {"bad.tar"}


def test_a_link_in_a_tar_is_refused(tmp_path):
    with tarfile.open(tmp_path / "bad.tar", "w") as archive:
        member = tarfile.TarInfo("mmseek.json")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(NotACollection, match="no snapshot has"):
        restore_collection(tmp_path / "bad.tar", tmp_path / "restored")


def test_what_is_no_snapshot(tmp_path):
    (tmp_path / "text.tar").write_text("no archive")
    for name in ("text.tar", "absent.tar"):
        with pytest.raises(NotACollection):
            restore_collection(tmp_path / name, tmp_path / "restored")
    assert not (tmp_path / "restored").exists()


@pytest.mark.parametrize("name", ["copy", "copy.tar"])
def test_a_full_disk_at_each_step_leaves_nothing(folder, tmp_path, name, monkeypatch):
    real, failed = os.fsync, 0
    for step in range(1, 40):
        left = [step]

        def failing(fd):
            left[0] -= 1  # noqa: B023
            if not left[0]:  # noqa: B023
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(fd)

        said = ""
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", failing)
            try:
                take_snapshot(folder, tmp_path / name)
            except StorageError as error:
                said = str(error)
        if (tmp_path / name).exists():  # the last sync comes after the rename
            break
        assert "full" in said
        assert {path.name for path in tmp_path.iterdir()} == {"collection"}
        failed += 1
    assert failed > 5
    assert verify_collection(folder).ok
