"""A remembered answer is the answer that SQLite would give."""

from __future__ import annotations

from contextlib import closing

import pytest

from mmseek import Content, Document
from mmseek.index import open_collection
from mmseek.index.filter_cache import FilterCache
from mmseek.index.filter_sql import compile_filter
from mmseek.index.ledger import reading


@pytest.fixture
def opened(tmp_path, identity, vectors):
    with closing(open_collection(tmp_path / "c", mode="create", encoder=identity)) as collection:
        values = [1, 1.5, True, "1", None] * 20
        documents = [Document(f"d{n}", Content.of("t"), {"n": n, "v": value}) for n, value in enumerate(values)]
        collection.upsert(documents, vectors(100))
        yield collection


def ask(collection, cache, text):
    with collection._connections.lend() as connection, reading(connection) as snapshot:
        condition = compile_filter(text)
        found = cache.rows(snapshot, condition).tolist()
        assert found == snapshot.rows_where(condition).tolist()
        return found


def test_answers_are_those_of_the_generation(opened, vectors):
    cache = FilterCache()
    for _ in range(2):
        for text, count in (("n < 10", 10), ("n < 11", 11), ("v == 1", 20), ("v == true", 20), ('v == "1"', 20)):
            assert len(ask(opened, cache, text)) == count
    opened.delete(["d3"])
    assert len(ask(opened, cache, "n < 10")) == 9
    opened.upsert([Document("d3", Content.of("t"), {"n": 3})], vectors(1))
    assert len(ask(opened, cache, "n < 10")) == 10


def test_a_known_answer_is_not_asked_for_again(opened, vectors, monkeypatch):
    query = vectors(1, seed=1)[0]
    first = [hit.id for hit in opened.search(query, 5, filter="n < 10")]
    monkeypatch.setattr("mmseek.index.ledger.Snapshot.rows_where", lambda *_: 1 / 0)
    assert [hit.id for hit in opened.search(query, 5, filter="n < 10")] == first
    with pytest.raises(ZeroDivisionError):
        opened.search(query, 5, filter="n < 11")


def test_an_older_snapshot_neither_takes_nor_gives(opened, vectors):
    cache = FilterCache()
    with opened._connections.lend() as connection, reading(connection) as old:
        condition = compile_filter("n < 10")
        assert len(cache.rows(old, condition)) == 10
        opened.delete(["d3"])
        assert len(ask(opened, cache, "n < 10")) == 9
        assert len(cache.rows(old, condition)) == 10
        assert len(ask(opened, cache, "n < 10")) == 9


def test_memory_is_bounded(opened):
    cache = FilterCache(most_bytes=8 * 150)
    for limit in range(1, 100):
        ask(opened, cache, f"n < {limit}")
        assert sum(rows.nbytes for rows in cache._answers.values()) == cache._bytes <= 8 * 150
    assert 1 <= len(cache._answers) <= 2
