"""Search in words on every kind of collection."""

from __future__ import annotations

import math
import sqlite3

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmseek import Content, Document, Image
from mmseek.errors import CollectionError, InputError
from mmseek.index import open_collection
from mmseek.index.words import MAX_WORDS


def store(collection, vectors, texts, **metadata):
    documents = [Document(f"d{n}", Content.of(text), metadata) for n, text in enumerate(texts)]
    collection.upsert(documents, vectors(len(documents)))


def found(collection, text, k=10, **limits):
    return [hit.id for hit in collection.search_text(text, k, **limits)]


def test_scores_are_bm25(collection, vectors):
    """Against the formula, with SQLite's k1 = 1.2 and b = 0.75."""
    texts = ["zebra zebra lion", "zebra", "lion owl owl owl", "owl", "kiwi", "kiwi rat", "rat", "cow cow", "cow"]
    store(collection, vectors, texts)
    words = [text.split() for text in texts]
    mean = sum(map(len, words)) / len(words)

    def score(document, word):
        having = sum(word in other for other in words)
        idf = math.log((len(words) - having + 0.5) / (having + 0.5))
        count = document.count(word)
        return idf * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * len(document) / mean))

    expected = {f"d{n}": score(document, "zebra") + score(document, "lion") for n, document in enumerate(words)}
    expected = {name: value for name, value in expected.items() if value > 0}
    hits = collection.search_text("zebra lion", 10)
    assert {hit.id: hit.score for hit in hits} == pytest.approx(expected)
    assert [hit.id for hit in hits] == sorted(expected, key=lambda name: -expected[name])
    assert [hit.rank for hit in hits] == [1, 2, 3]
    assert all(hit.scores == {"lexical": hit.score} for hit in hits)
    assert hits[0].document == collection.get([hits[0].id])[hits[0].id]


def test_words_are_folded_and_stemmed(collection, vectors):
    store(collection, vectors, ["Café crème", "running runners", "ΑΘΗΝΑ", "no match here", "cafe\u0301"])
    assert set(found(collection, "cafe")) == {"d0", "d4"}
    assert set(found(collection, "CAFÉ")) == {"d0", "d4"}
    assert found(collection, "CREME") == ["d0"]
    assert found(collection, "run") == ["d1"]
    assert found(collection, "αθηνα") == ["d2"]


def test_pictures_are_found_by_their_metadata(collection, vectors):
    picture = Image(data=b"\x89PNG\r\n\x1a\n")
    meta = {"caption": "a lighthouse", "ocr": ["exit", {"deep": "turnstile"}], "n": 7, "none": None, "keyname": True}
    collection.upsert([Document("p", Content((picture,)), meta), Document("q", Content((picture,)), {})], vectors(2))
    for word in ("lighthouse", "exit", "turnstile"):
        assert found(collection, word) == ["p"]
    assert found(collection, "keyname ocr deep") == []


def test_changes_are_followed(collection, location, vectors):
    reader = open_collection(location)
    store(collection, vectors, ["apple pie", "banana"])
    assert found(reader, "apple") == ["d0"]
    store(collection, vectors, ["cherry"])  # replaces d0
    assert found(reader, "apple pie") == []
    assert found(reader, "cherry") == ["d0"]
    collection.delete(["d0"])
    collection.compact()
    assert found(reader, "cherry banana") == ["d1"]
    assert reader.verify().problems == ()
    reader.close()
    collection.close()
    with open_collection(location) as again:
        assert found(again, "banana") == ["d1"]
        assert again.verify().problems == ()


def test_limits(collection, vectors):
    store(collection, vectors, ["same words"] * 20)
    assert found(collection, "words", 3) == ["d0", "d1", "d2"]  # equal scores: as stored
    assert found(collection, "words", 3, exclude=["d0", "d2", "unknown"]) == ["d1", "d3", "d4"]
    assert found(collection, "words", 3, candidates=["d9", "unknown", "d7"]) == ["d7", "d9"]
    assert found(collection, "words", 3, candidates=[]) == []
    with pytest.raises(InputError, match="at least 1"):
        collection.search_text("words", 0)
    with pytest.raises(InputError, match="list of ids"):
        collection.search_text("words", 3, exclude="d1")


SYNTAX = st.sampled_from(
    ['"', "*", "NEAR(", ")", "AND", "OR", "NOT", "text:", "^", "-", "{", "}", "+", "\x00", "'", "word"]
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.text(max_size=60) | st.lists(SYNTAX, max_size=10).map(" ".join) | st.lists(SYNTAX, max_size=10).map("".join))
def test_no_text_is_syntax(collection, vectors, text):
    collection.upsert([Document("one", Content.of(text + " word")), Document("two", Content.of("other"))], vectors(2))
    hits = collection.search_text(text, 5)
    assert {hit.id for hit in hits} <= {"one", "two"}
    assert found(collection, f"word {text}")[0] == "one"


def test_very_long_queries(collection, vectors):
    store(collection, vectors, ["w7", "w999999"])
    assert found(collection, " ".join(f"w{n}" for n in range(MAX_WORDS * 50))) == ["d0"]
    assert found(collection, "x" * 1_000_000) == []


@pytest.mark.parametrize("location", ["folder"], indirect=True)
def test_a_collection_without_the_index_of_words(collection, location, identity, vectors):
    """As early versions wrote it: readers still search by vector, and the next writer builds what is missing."""
    store(collection, vectors, ["apple", "banana"])
    collection.close()
    database = sqlite3.connect(location / "documents.sqlite")
    with database:
        database.execute("DROP TABLE words")
        database.execute("DELETE FROM meta WHERE key LIKE 'words%'")
    database.close()
    with open_collection(location) as reader:
        assert len(reader.search(vectors(1)[0], 5)) == 2
        with pytest.raises(CollectionError, match="did not search in words"):
            reader.search_text("apple", 5)
    with open_collection(location, mode="write", encoder=identity) as writer:
        assert found(writer, "apple") == ["d0"]
        assert writer.verify().problems == ()
    with open_collection(location) as reader:
        assert found(reader, "banana") == ["d1"]
        assert reader.verify().problems == ()


@pytest.mark.parametrize("location", ["folder"], indirect=True)
def test_an_index_of_words_that_fell_behind_is_rebuilt(collection, location, identity, vectors):
    """A version that does not know the index leaves it behind when it writes."""
    store(collection, vectors, ["apple", "banana"])
    collection.close()
    database = sqlite3.connect(location / "documents.sqlite")
    with database:
        database.execute("UPDATE meta SET value = value - 1 WHERE key = 'words_generation'")
        database.execute("INSERT INTO words (words, rowid, text) VALUES ('delete', 1, 'apple')")
    database.close()
    with open_collection(location, mode="write", encoder=identity) as writer:
        assert found(writer, "apple") == ["d0"]


@pytest.mark.parametrize("location", ["folder"], indirect=True)
def test_verify_compares_the_words_with_the_documents(collection, location, vectors):
    store(collection, vectors, ["apple", "banana"])
    database = sqlite3.connect(location / "documents.sqlite")
    with database:
        database.execute("INSERT INTO words (words, rowid, text) VALUES ('delete', 1, 'apple')")
    database.close()
    assert any("index of words" in problem for problem in collection.verify().problems)


def test_beside_vectors_of_another_shape(collection):
    collection.upsert([Document("d", Content.of("word"))], np.ones((1, 8), dtype=np.float32))
    assert [hit.score > 0 for hit in collection.search_text("word", 1)]
