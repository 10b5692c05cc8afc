"""Killed at any instant, a collection opens, is sound, and has everything that was acknowledged."""

from __future__ import annotations

import importlib.util
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmseek.index import open_collection

PROGRAM = Path(__file__).with_name("writer_program.py")
spec = importlib.util.spec_from_file_location("writer_program", PROGRAM)
program = importlib.util.module_from_spec(spec)
spec.loader.exec_module(program)


@pytest.fixture
def start(forks: Callable[[str], Any]) -> Callable[..., Any]:
    return forks("writer_program").start


def acknowledged(output: str) -> set[int]:
    """What was stored for good. A batch's first document is taken out for a moment after that."""
    stored = [line.split()[1:] for line in output.splitlines() if line.startswith("stored")]
    last = {int(stored[-1][0])} if stored else set()
    return {int(n) for batch in stored for n in batch} - last


def check_state(folder: Path, stored: set[int]) -> int:
    """The state after a crash, seen by a reader and then by a writer; returns the number of documents."""
    for mode in ("read", "write"):
        collection = open_collection(folder, mode=mode)
        report = collection.verify()
        assert report.ok, report.problems
        found = {document.id: document for document in collection.documents()}
        assert {f"d{n}" for n in stored} <= set(found)
        digests = collection.digests(list(found))
        for n in range(len(found) % 3, program.DOCUMENTS, 3):  # others at the next kill
            if digests.get(f"d{n}") == f"h{n}":
                hit = collection.search(program.vector(n), 1, candidates=[f"d{n}"])[0]
                assert hit.score == pytest.approx(float(program.vector(n) @ program.vector(n)), rel=1e-5)
                assert hit.document.content.text == f"text {n}"
        assert all(digests[f"d{n}"] == f"h{n}" for n in stored)
        collection.close()
    return len(found)


def check_finished(folder: Path) -> None:
    """Exactly the corpus: each document once, with its vector."""
    collection = open_collection(folder)
    assert collection.verify().ok
    assert sorted(document.id for document in collection.documents()) == sorted(
        f"d{n}" for n in range(program.DOCUMENTS)
    )
    hits = collection.search(program.vector(0), 1000)
    scores = np.stack([program.vector(n) for n in range(program.DOCUMENTS)]) @ program.vector(0)
    assert [hit.id for hit in hits] == [f"d{n}" for n in np.argsort(-scores)]
    collection.close()


@pytest.mark.slow
def test_kill_at_twenty_random_instants(start, tmp_path):
    chance = random.Random(7)
    folder, stored, counts = tmp_path / "collection", set(), []
    for number in range(20):
        writer = start(folder)
        if number % 5:  # after some lines, so that a slow machine is killed at work too
            heard = "".join(writer.stdout.readline() for _ in range(chance.randint(1, 9)))
            time.sleep(chance.uniform(0.0, 0.03))
        else:  # perhaps before it has even opened
            heard = ""
            time.sleep(chance.uniform(0.0, 0.6))
        writer.kill()
        _, rest, complaint = writer.end()
        assert complaint == ""
        stored |= acknowledged(heard + rest)
        if (folder / "mmseek.json").exists():
            counts.append(check_state(folder, stored))
            if counts[-1] == program.DOCUMENTS:  # begin anew, so that all twenty hit a writer at work
                shutil.rmtree(folder)
                stored = set()
    assert len(set(counts)) > 3, "the writer was always killed at the same place"
    status, output, complaint = start(folder).end()
    assert (status, complaint) == (0, "")
    assert output.endswith("done\n")
    check_finished(folder)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(4))
def test_kill_at_each_step_of_the_way(start, tmp_path, first):
    """From nothing: the steps of making the collection, and of the first commits, one after the other."""
    reached = 0
    for step in range(1 + first, 33, 4):
        folder = tmp_path / str(step)
        status, output, complaint = start(folder, step).end()
        assert status == -signal.SIGKILL, complaint
        if (folder / "mmseek.json").exists():
            check_state(folder, acknowledged(output))
            reached += 1
        else:
            open_collection(folder, mode="write", encoder=program.IDENTITY).close()
            check_state(folder, set())
    assert reached > 2


def check_tokens(folder: Path, stored: set[int]) -> None:
    """As `check_state`, of a collection with a vector for each token."""
    for mode in ("read", "write"):
        collection = open_collection(folder, mode=mode)
        report = collection.verify()
        assert report.ok, report.problems
        names = [document.id for document in collection.documents()]
        assert {f"d{n}" for n in stored} <= set(names)
        digests = collection.digests(names)
        for name, matrix in collection.vectors(names).items():
            whole = program.tokens(int(name[1:]))
            np.testing.assert_array_equal(matrix, whole if digests[name].startswith("h") else -whole)
        assert len(collection.search(program.tokens(0), 1000)) == len(names)
        collection.close()


@pytest.mark.slow
def test_kill_while_tokens_are_written(start, tmp_path):
    """One writer after another, each killed further on its way, into one collection that the last completes."""
    folder, stored = tmp_path / "c-tokens", set()
    for step in (21, 26, 31, 41, 47, 95, 170):
        _, output, complaint = start(folder, step).end()
        assert complaint == ""
        stored |= acknowledged(output)
        if (folder / "mmseek.json").exists():
            check_tokens(folder, stored)
    status, _, complaint = start(folder).end()
    assert (status, complaint) == (0, "")
    check_tokens(folder, set(range(program.DOCUMENTS)))


def test_a_torn_end_is_cut_off(tmp_path):
    folder = tmp_path / "collection"
    collection = open_collection(folder, mode="write", encoder=program.IDENTITY)
    collection.upsert([program.document(1)], program.vector(1)[None])
    collection.close()
    segment = folder / "vectors" / "000001.f32"
    whole = segment.read_bytes()
    segment.write_bytes(whole + b"half a row")
    (folder / "vectors" / "000002.f32").write_bytes(b"never committed")
    assert open_collection(folder).verify().ok
    collection = open_collection(folder, mode="write")
    assert segment.read_bytes() == whole
    assert not (folder / "vectors" / "000002.f32").exists()
    collection.upsert([program.document(2)], program.vector(2)[None])
    assert collection.search(program.vector(2), 1)[0].id == "d2"
    assert collection.verify().ok
    collection.close()
