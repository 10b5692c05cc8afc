"""Killed at any instant of building, growing or moving a stored index, a collection opens, verifies and finds."""

from __future__ import annotations

import importlib.util
import shutil
import signal
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from mmseek.index import open_collection

PROGRAM = Path(__file__).with_name("tuning_program.py")
spec = importlib.util.spec_from_file_location("tuning_program", PROGRAM)
program = importlib.util.module_from_spec(spec)
spec.loader.exec_module(program)
DOCUMENTS = 60


def check(folder):
    """A reader, and then a writer, find what is best, and nothing is unsound."""
    for mode in ("read", "write"):
        with closing(open_collection(folder, mode=mode)) as opened:
            assert opened.verify().problems == ()
            names = [document.id for document in opened.documents()]
            assert len(names) >= DOCUMENTS - 1
            stored = np.stack([program.program.vector(int(name[1:])) for name in names])
            for query in stored[::7]:
                assert opened.search(query, 1)[0].id == names[int(np.argmax(stored @ query))]
    left = {path.name for path in (folder / "ann").glob("0*")}
    with closing(open_collection(folder, mode="write")) as opened:
        opened.ann.fold()
        build = opened.ann.folder.build()
        assert opened.verify().ok
    assert build is None or len(left) in {0, 2}, left


@pytest.mark.slow
def test_kill_at_steps_all_the_way(forks, tmp_path):
    start = forks("tuning_program").start
    first = tmp_path / "first"
    with closing(open_collection(first, mode="create", encoder=program.program.IDENTITY)) as made:
        program.store(made, range(DOCUMENTS))
    killed = 0
    for step in (1, 2, 3, 5, 8, 9, 10, 11, 12, 13, 15, 18, 22, 27, 33, 40):
        folder = tmp_path / str(step)
        shutil.copytree(first, folder)
        done = start(folder, step).end()
        assert done.complaint == ""
        killed += done.status == -signal.SIGKILL
        check(folder)
    assert killed >= 12
    done = start(first).end()
    assert (done.status, done.output.count("folded")) == (0, 2), done.complaint
    check(first)
