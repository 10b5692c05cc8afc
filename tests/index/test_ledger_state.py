"""The state that a connection remembers is the state there is."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from mmseek.index import open_collection
from mmseek.index.ledger import Snapshot, reading, writing


@pytest.fixture
def opened(tmp_path, identity, documents, vectors):
    with closing(open_collection(tmp_path / "c", mode="create", encoder=identity)) as collection:
        collection.upsert(documents(range(3)), vectors(3))
        yield collection


def asked(collection):
    """The same from a connection that remembers and from one that cannot."""
    with collection._connections.snapshot() as snapshot:
        state = snapshot.state()
        assert snapshot.state() is state
    with closing(sqlite3.connect(collection.folder / "documents.sqlite")) as plain:
        assert Snapshot(plain).state() == state
    return state


def test_what_this_and_other_writers_do_is_seen(opened, documents, vectors, tmp_path):
    states = [asked(opened)]
    with closing(open_collection(tmp_path / "c")) as reader:
        assert asked(reader) == states[0]
        for n in range(5):
            opened.upsert(documents([n]), vectors(1))
            states += [asked(opened), asked(reader)]
            assert states[-1] == states[-2] != states[-3]
        opened.delete(["d1"])
        assert asked(opened) == asked(reader) != states[-1]
        opened.compact()
        assert asked(opened) == asked(reader)
        assert asked(reader).epoch == states[0].epoch + 1


def test_a_change_that_came_to_nothing_is_not_remembered(opened):
    before = asked(opened)

    def fail(connection):
        with writing(connection) as transaction:
            transaction.finish(before.generation + 7)
            assert transaction.state().generation == before.generation + 7
            raise ZeroDivisionError

    with opened._connections.lend() as connection:
        with pytest.raises(ZeroDivisionError):
            fail(connection)
        with reading(connection) as snapshot:
            assert snapshot.state() == before
    assert asked(opened) == before


def test_a_snapshot_keeps_its_state(opened, documents, vectors):
    before = asked(opened)
    with opened._connections.snapshot() as old:
        assert old.state() == before
        opened.upsert(documents([9]), vectors(1))
        assert old.state() == before
    assert asked(opened).generation == before.generation + 1
