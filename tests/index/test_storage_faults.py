"""A full, read-only or failing disk: one sentence, nothing of the call stored, and the collection goes on."""

from __future__ import annotations

import errno
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

from mmseek import Content, Document, Image
from mmseek.errors import StorageError
from mmseek.index import open_collection, verify_collection


class Crash(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def writer(tmp_path, identity, documents, vectors):
    made = open_collection(tmp_path / "collection", mode="create", encoder=identity)
    made.upsert(documents(range(10)), vectors(10), ["first"] * 10)
    yield made
    made.close()


def pictured(n, seed=0):
    return [Document(f"p{i}", Content((Image(data=b"picture %d %d" % (i, seed)),))) for i in range(n)]


def check_unchanged(writer, documents):
    assert list(writer.documents()) == documents(range(10))
    report = writer.verify()
    assert report.ok, report.problems
    with open_collection(writer.info().location) as reader:
        assert list(reader.documents()) == documents(range(10))


def fail_at(monkeypatch, name, step, error, module=os):
    """Let the step-th call of a function fail, and tell how many there were."""
    calls, real = [0], getattr(module, name)

    def failing(*args, **kwargs):
        calls[0] += 1
        if calls[0] == step:
            raise error
        return real(*args, **kwargs)

    monkeypatch.setattr(module, name, failing)
    return calls


def error_of(call):
    """What a call says when it cannot store, or None."""
    try:
        call()
    except StorageError as error:
        return str(error)
    return None


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("name", ["write", "fsync"])
def test_a_failing_call_stores_nothing(writer, documents, vectors, monkeypatch, name, code):
    words = {errno.EIO: "writing failed", errno.EROFS: "read-only"}.get(code, "full")
    for step in range(1, 20):
        with monkeypatch.context() as patch:
            fail_at(patch, name, step, OSError(code, os.strerror(code)))
            error = error_of(lambda: writer.upsert(pictured(3, step), vectors(3, seed=step)))  # noqa: B023
        if error is None:
            break
        assert words in error
        assert "\n" not in error
        check_unchanged(writer, documents)
    assert step > 5, "each of three pictures, the vectors and the head should have been met"
    assert set(writer.get(["p0", "p1", "p2"])) == {"p0", "p1", "p2"}
    assert writer.verify().ok


def test_a_disk_that_takes_a_few_bytes_at_a_time(writer, documents, vectors, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data[:7])))
    writer.upsert(pictured(3), vectors(3, seed=1))
    assert writer.verify().ok


def test_a_disk_that_fills_in_the_middle_of_the_vectors(writer, documents, vectors, monkeypatch):
    real = os.write

    def half(fd, data):
        if len(data) <= 16:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, bytes(data[: len(data) // 2]))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(StorageError, match="full"):
            writer.upsert(documents(range(20, 40)), vectors(20, seed=1))
    check_unchanged(writer, documents)
    writer.upsert(documents(range(20, 40)), vectors(20, seed=1))
    assert writer.verify().documents == 30


def test_a_full_disk_under_sqlite(writer, documents, vectors):
    with writer._connections.lend() as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
    long = [Document(f"n{n}", Content.of("x" * 9000)) for n in range(10)]
    replacing = [Document(f"d{n}", Content.of("x" * 9000)) for n in range(10)]
    for batch in (long, replacing, long):
        with pytest.raises(StorageError, match="full"):
            writer.upsert(batch, vectors(10))
        check_unchanged(writer, documents)
    with writer._connections.lend() as connection:
        connection.execute("PRAGMA max_page_count = 100000")
    writer.upsert(long, vectors(10))
    assert writer.verify().documents == 20


def test_a_full_disk_while_a_collection_is_made(tmp_path, identity, monkeypatch):
    folder = tmp_path / "collection"
    for step in range(1, 12):
        with monkeypatch.context() as patch:
            fail_at(patch, "fsync", step, OSError(errno.ENOSPC, "No space left on device"))
            error = error_of(lambda: open_collection(folder, mode="write", encoder=identity).close())
        if error is None:
            break
        assert "full" in error
    assert step > 4
    assert verify_collection(folder).ok


def test_a_real_limit_on_file_size(tmp_path):
    """The operating system itself refuses: no file may grow over 300 kB."""
    program = """
        import resource, sys
        import numpy as np
        from mmseek import Content, Document, EncoderIdentity
        from mmseek.errors import StorageError
        from mmseek.index import open_collection
        writer = open_collection(sys.argv[1], mode="create", encoder=EncoderIdentity("mini", "f" * 64, 64))
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        stored = 0
        try:
            while True:
                batch = [Document(f"d{n}", Content.of("x" * 200)) for n in range(stored, stored + 50)]
                writer.upsert(batch, np.ones((50, 64), dtype=np.float32))
                stored += 50
        except StorageError as error:
            print(error, file=sys.stderr)
        report = writer.verify()
        assert report.ok and report.documents == stored, report
        print(stored)
    """
    pytest.importorskip("resource", reason="limits of this kind exist on POSIX only")
    folder = tmp_path / "collection"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(folder)], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1
    report = verify_collection(folder)
    assert report.ok, report.problems
    assert report.documents == int(done.stdout) > 0


READ = """
    import os, sys
    import numpy as np
    from mmseek import EncoderIdentity
    from mmseek.errors import MmseekError
    from mmseek.index import exact, open_collection, verify_collection
    if os.geteuid() == 0:  # root may write anywhere
        os.setegid(65534)
        os.seteuid(65534)
    identity = EncoderIdentity("mini", "f" * 64, 8)
    for mode in ("write", "create"):
        try:
            open_collection(sys.argv[1] if mode == "write" else sys.argv[1] + "/new", mode=mode, encoder=identity)
        except MmseekError as error:
            print(type(error).__name__, "read-only" in str(error))
    reader = open_collection(sys.argv[1])
    print(len(reader.search(np.ones(8, dtype=np.float32), 100)), reader.verify().problems, reader.info().documents)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of folders are POSIX")
@pytest.mark.parametrize("clean", [True, False])
def test_a_read_only_folder_is_read(tmp_path_factory, identity, documents, vectors, clean):
    import shutil
    import tempfile

    from mmseek import EncoderIdentity

    outer = pathlib.Path(tempfile.mkdtemp())  # others may not enter pytest's own
    try:
        folder = outer / "collection"
        writer = open_collection(folder, mode="create", encoder=EncoderIdentity("mini", "f" * 64, 8))
        writer.upsert(documents(range(10)), vectors(10))
        if not clean:  # as a killed writer leaves it
            shutil.copytree(folder, outer / "killed")
            folder = outer / "killed"
            (folder / "documents.sqlite-shm").unlink()
        writer.close()
        outer.chmod(0o755)
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(READ), str(folder)], capture_output=True, text=True, timeout=240
        )
        assert done.stdout.startswith("StorageError True\nStorageError True\n"), done
        if clean:
            assert done.stdout.endswith("\n10 () 10\n"), done
        else:
            assert "open it once where it can be written" in done.stderr
    finally:
        for path in [outer, *outer.rglob("*")]:
            path.chmod(0o755)
        shutil.rmtree(outer)


def test_a_compaction_that_is_cut_off_anywhere(tmp_path, identity, documents, vectors, monkeypatch):
    reached = 0
    for name, module in (("write", os), ("fsync", os), ("unlink", pathlib.Path)):
        for step in range(1, 5):
            folder = tmp_path / f"{name}{step}"
            writer = open_collection(folder, mode="create", encoder=identity)
            writer.upsert(documents(range(20)), vectors(20))
            writer.upsert(pictured(1), vectors(1, seed=1))
            writer.delete(["d3", "p0"])
            expected = list(writer.documents())
            with monkeypatch.context() as patch:
                fail_at(patch, name, step, Crash(), module)
                try:
                    writer.compact()
                except Crash:
                    reached += 1
            os.close(writer._lock._fd)  # the process is gone, and its lock with it
            writer._connections.close()
            report = verify_collection(folder)
            assert report.ok, report.problems
            with open_collection(folder, mode="write") as again:
                assert list(again.documents()) == expected
                assert again.verify().ok
                again.compact()
                assert again.compact() == 0
                assert len(list((folder / "vectors").iterdir())) == 1
                assert not list((folder / "assets").glob("*/*"))
                assert len(again.search(vectors(1)[0], 100)) == 19
    assert reached > 5


def test_compaction_gives_space_back_and_changes_nothing(writer, documents, vectors):
    for seed in range(5):
        writer.upsert(documents(range(10), seed=seed), vectors(10, seed=seed))
    writer.upsert(pictured(2), vectors(2, seed=9))
    writer.delete(["p0"])
    reader = open_collection(writer.info().location)
    query = vectors(1, seed=3)[0]
    before, size = writer.search(query, 20), writer.info().bytes
    assert reader.search(query, 20) == before
    assert writer.compact() == 51
    assert writer.info().bytes < size
    assert writer.search(query, 20) == before
    assert reader.search(query, 20) == before
    assert reader.verify().ok
    writer.upsert(documents([5], seed="new"), vectors(1, seed=77))
    assert reader.search(vectors(1, seed=77)[0], 1)[0].document == documents([5], seed="new")[0]
    reader.close()
    assert writer.compact() == 1
    assert writer.compact() == 0


def test_a_reader_that_missed_a_deletion_before_a_compaction(writer, vectors):
    reader = open_collection(writer.info().location)
    assert len(reader.search(vectors(1)[0], 20)) == 10
    writer.delete(["d2", "d3"])
    writer.compact()
    assert len(reader.search(vectors(1)[0], 20)) == 8
    reader.close()


def test_new_segments_are_begun_at_the_limit(writer, documents, vectors):
    writer._segments.limit = 1000
    for n in range(10, 100, 10):
        writer.upsert(documents(range(n, n + 10)), vectors(10, seed=n))
    segments = list((pathlib.Path(writer.info().location) / "vectors").iterdir())
    assert len(segments) == 4
    assert max(path.stat().st_size for path in segments) <= 1000
    assert writer.search(vectors(10, seed=50)[3], 1)[0].id == "d53"
    writer.delete([f"d{n}" for n in range(0, 100, 2)])
    writer.compact()
    assert writer.verify().ok
    assert writer.search(vectors(10, seed=50)[3], 1)[0].id == "d53"


@pytest.mark.parametrize("name", ["write", "fsync"])
@pytest.mark.parametrize("what", ["export", "import", "repair"])
def test_a_full_disk_at_each_step_of_a_copy(writer, documents, vectors, tmp_path, monkeypatch, what, name):
    """Nothing of it is lost, what is there is sound, and the same call ends well once there is room."""
    from mmseek.index import repair_collection
    from mmseek.index.exchange import export_collection, import_collection

    writer.upsert(pictured(2), vectors(2, seed=4), ["a", "b"])
    export_collection(writer, tmp_path / "ready", rows=5)
    writer.close()
    place = tmp_path / "collection"

    def import_all():
        with open_collection(tmp_path / "target", mode="write", encoder=writer.encoder) as target:
            import_collection(tmp_path / "ready", target)

    def export_all():
        with open_collection(place) as source:
            export_collection(source, tmp_path / "out", rows=5)

    calls = {"export": export_all, "import": import_all, "repair": lambda: repair_collection(place)}
    if what == "repair":
        (segment,) = (place / "vectors").iterdir()
        segment.write_bytes(b"\x01" + segment.read_bytes()[1:])
    failed = 0
    for step in range(1, 60):
        with monkeypatch.context() as patch:
            fail_at(patch, name, step, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
            error = error_of(calls[what])
        if error is None:
            break
        failed += 1
        assert "full" in error
        if what == "export" and (tmp_path / "out").exists():  # the last sync comes after the rename: it is whole
            break
    assert failed > 3
    if what == "repair":
        assert set(open_collection(place).get(["d0", "p0", "p1"])) == {"p0", "p1"}
    calls[what]() if what == "import" else None
    for folder in {"export": [place], "import": [place, tmp_path / "target"], "repair": [place]}[what]:
        assert verify_collection(folder).ok


def test_a_clock_that_goes_back(writer, documents, vectors, monkeypatch):
    """Order comes from counters: a document that is written later wins, whatever the clock says."""
    monkeypatch.setattr("mmseek.index.ledger.now", lambda: "1999-01-01T00:00:00+00:00")
    writer.upsert(documents([3], late=True), vectors(1, seed=8), ["late"])
    writer.delete(["d4"])
    writer.compact()
    with open_collection(writer.info().location) as reader:
        assert reader.get(["d3"])["d3"].metadata == {"n": 3, "late": True}
        assert reader.get(["d4"]) == {}
        assert reader.info().updated_at.startswith("1999")
        assert reader.search(vectors(1, seed=8)[0], 1)[0].id == "d3"
        assert reader.verify().ok
