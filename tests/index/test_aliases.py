"""A name that stands for one collection or another, never for a mix."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from mmseek import EncoderIdentity
from mmseek.errors import CorruptCollection, InputError, NotACollection
from mmseek.index import is_alias, open_collection, set_alias, verify_collection


@pytest.fixture
def two(tmp_path, documents):
    """Two collections of two encoders: 4-d with 5 documents, 8-d with 7."""
    for name, dim, count in (("old", 4, 5), ("new", 8, 7)):
        identity = EncoderIdentity(name, name[0] * 64, dim)
        with open_collection(tmp_path / name, mode="create", encoder=identity) as made:
            made.upsert(documents(range(count), of=name), np.eye(count, dim, dtype=np.float32) + 0.1)
    return tmp_path / "old", tmp_path / "new"


def test_an_alias_is_opened_as_what_it_stands_for(two, tmp_path, documents):
    old, new = two
    assert set_alias(tmp_path / "name", old) is None
    assert is_alias(tmp_path / "name")
    assert not is_alias(old)
    with open_collection(tmp_path / "name", mode="write") as opened:
        assert opened.info().location == str(old)
        opened.upsert(documents([9], of="old"), np.ones((1, 4), dtype=np.float32))
    assert verify_collection(tmp_path / "name").documents == 6
    assert set_alias(tmp_path / "name", new) == old
    assert open_collection(tmp_path / "name").info().encoder.spec == "new"
    assert open_collection(old).info().documents == 6


def test_an_alias_moves_with_its_folder(two, tmp_path):
    set_alias(tmp_path / "name", two[0])
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    tmp_path.rename(moved)
    assert open_collection(moved / "name").info().location == str(moved / "old")
    moved.rename(tmp_path)


def test_what_is_refused(two, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="no alias"):
        set_alias(tmp_path / "file", two[0])
    with pytest.raises(InputError, match="no alias"):
        set_alias(two[1], two[0])
    with pytest.raises(NotACollection):
        set_alias(tmp_path / "name", tmp_path / "absent")
    set_alias(tmp_path / "name", two[0])
    with pytest.raises(InputError, match="alias itself"):
        set_alias(tmp_path / "other", tmp_path / "name")
    with pytest.raises(NotACollection):
        open_collection(tmp_path / "file")
    (tmp_path / "name").write_text('{"format": "mmseek-alias"')
    with pytest.raises(CorruptCollection, match="mmseek alias"):
        open_collection(tmp_path / "name")
    (tmp_path / "name").write_text('{"format": "mmseek-alias", "target": 7}')
    with pytest.raises(CorruptCollection, match="mmseek alias"):
        open_collection(tmp_path / "name")


def test_searches_during_switches_see_the_one_or_the_other(two, tmp_path):
    alias, stop, problems, seen = tmp_path / "name", threading.Event(), [], set()
    set_alias(alias, two[0])

    def read():
        try:
            while not stop.is_set():
                with open_collection(alias) as opened:
                    encoder = opened.info().encoder
                    hits = opened.search(np.ones(encoder.dim, dtype=np.float32), 100)
                    assert {hit.document.metadata["of"] for hit in hits} == {encoder.spec}
                    assert len(hits) == {"old": 5, "new": 7}[encoder.spec]
                    seen.add(encoder.spec)
        except BaseException as error:  # noqa: BLE001  # told to the test
            problems.append(error)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    number, end = 0, time.monotonic() + 240
    while number < 40 or (len(seen) < 2 and not problems and time.monotonic() < end):
        set_alias(alias, two[number % 2])
        number += 1
    stop.set()
    for thread in threads:
        thread.join()
    assert not problems
    assert seen == {"old", "new"}
