"""An indexing run is killed at twenty instants: nothing acknowledged is lost, and running again ends the work."""

from __future__ import annotations

import base64
import json
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mmseek import Document
from mmseek.digest import digest
from mmseek.errors import NotACollection
from mmseek.index import open_collection
from mmseek.index.corpus import read_corpus
from mmseek.pipeline.indexing import index_corpus
from mmseek.testing import FakeEncoder

KILLS = 20
DOCUMENTS = 160
BATCH = 8  # as in the script
SCRIPT = Path(__file__).with_name("killable_indexing.py")


class Runs:
    """The process that forks runs; see `killable_indexing.py`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(SCRIPT)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, location: Path, source: Path, *, kill: tuple[int, float] | None = None) -> tuple[int, int]:
        """Index, perhaps killed so many seconds after so many documents: exit status, documents acknowledged."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        order = {"location": str(location), "source": str(source), "kill": kill}
        stdin.write(json.dumps(order) + "\n")
        stdin.flush()
        stored = 0
        while True:
            word, number = stdout.readline().split()
            if word == "end":
                return int(number), stored
            stored = int(number)

    def close(self) -> None:
        self._process.communicate(timeout=240)


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    started = Runs()
    yield started
    started.close()


@pytest.fixture
def corpora(tmp_path: Path, png: Callable[[str], bytes]) -> tuple[Path, Path]:
    """Two versions of a corpus, equal in their ids only: texts, picture files and pictures inside of the items."""

    def write(version: int) -> Path:
        folder = tmp_path / f"version{version}"
        folder.mkdir()
        rows = []
        for number in range(DOCUMENTS):
            row = {"id": f"d{number}", "text": f"text {number} of version {version}", "metadata": {"version": version}}
            colour = f"#{version:02x}{number:04x}"
            if number % 8 == 0:
                (folder / f"{number}.png").write_bytes(png(colour))
                row["image"] = f"{number}.png"
            elif number % 8 == 4:
                row["image"] = "data:image/png;base64," + base64.b64encode(png(colour)).decode()
            rows.append(json.dumps(row))
        path = folder / "corpus.jsonl"
        path.write_text("\n".join(rows))
        return path

    return write(1), write(2)


def corpus(path: Path) -> list[Document]:
    return [entry for entry in read_corpus(path) if isinstance(entry, Document)]


def versions_after_a_kill(location: Path) -> list[int]:
    """Open for reading, as any other process would; everything that is held must be whole."""
    try:
        collection = open_collection(location)
    except NotACollection:
        # Killed before the collection was there: then nothing was acknowledged, and making it must work.
        assert not (location / "mmseek.json").exists()
        return []
    try:
        report = collection.verify()
        assert report.ok, report.problems
        documents = list(collection.documents())
        assert report.documents == report.vectors == len(documents) == len({document.id for document in documents})
        return [document.metadata["version"] for document in documents]
    finally:
        collection.close()


def check_finished(location: Path, source: Path) -> int:
    """Run again, in this process; the collection is then exactly the corpus. Returns how many were unchanged."""
    encoder = FakeEncoder()
    expected = corpus(source)
    collection = open_collection(location, mode="write", encoder=encoder.identity)
    try:
        report = index_corpus(expected, encoder, collection)
        assert report.indexed + report.unchanged == DOCUMENTS
        assert report.ok
        held = list(collection.documents())
        assert sorted(document.id for document in held) == sorted(document.id for document in expected)
        assert collection.info().documents == DOCUMENTS
        assert collection.digests([document.id for document in expected]) == {
            document.id: digest(document.content, document.metadata) for document in expected
        }
        for document in expected[::40]:
            hits = collection.search(encoder.encode_query([document.content])[0], 2)
            assert hits[0].id == document.id
            assert hits[0].score == pytest.approx(1.0, abs=1e-5)
            assert hits[1].score < 0.99
        after = collection.verify()
        assert after.ok, after.problems
        return report.unchanged
    finally:
        collection.close()


@pytest.mark.slow
@pytest.mark.parametrize("replacing", [False, True], ids=["new", "replacing"])
def test_kill_at_any_instant(runs: Runs, corpora: tuple[Path, Path], tmp_path: Path, replacing: bool) -> None:
    first, second = corpora
    start = tmp_path / "start"
    if replacing:
        assert runs.run(start, first)[0] == 0

    def fresh(name: str) -> Path:
        if replacing:
            shutil.copytree(start, tmp_path / name)
        return tmp_path / name

    assert runs.run(fresh("whole"), second) == (0, DOCUMENTS)
    draw = random.Random(20 + replacing)
    partial = killed = 0

    for number in range(KILLS // 2):
        location = fresh(f"killed{number}")
        # From the first document to behind the last, so that opening, encoding, storing and closing are all hit.
        after = DOCUMENTS * number // (KILLS // 2 - 1) // BATCH * BATCH
        instant = draw.uniform(0.0001, 0.02 if number else 0.1)
        status, stored = runs.run(location, second, kill=(after, instant))
        assert status in (0, -signal.SIGALRM)
        killed += status != 0

        versions = versions_after_a_kill(location)
        done = versions.count(2)
        assert stored <= done <= stored + BATCH, "what was acknowledged, and at most the batch on its way, is there"
        assert len(versions) == (DOCUMENTS if replacing else done)
        partial += 0 < done < DOCUMENTS
        assert check_finished(location, second) == done

    assert killed >= 5, "most kills come before the end of the run"
    assert partial >= 3, "some kills leave a part of the corpus"
