"""Reading all of a collection: documents, vectors and digests, of one state."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmseek import Content, Document, Image
from mmseek.errors import InputError
from mmseek.index import open_collection

PICTURE = b"\x89PNG\r\n\x1a\n picture"


def everything(collection, batch=7):
    batches = list(collection.export(batch))
    documents = [document for each in batches for document in each.documents]
    vectors = np.concatenate([each.vectors for each in batches]) if batches else np.empty((0, 0))
    return documents, vectors, [digest for each in batches for digest in each.digests]


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_all_of_it_comes_in_order(collection, documents, vectors, batch):
    collection.upsert(documents(range(20)), vectors(20), [f"h{n}" for n in range(20)])
    collection.delete(["d3"])
    collection.upsert(documents([5]), vectors(1, seed=5))
    found, matrix, digests = everything(collection, batch)
    kept = [n for n in range(20) if n not in (3, 5)]
    assert found == documents([*kept, 5])
    np.testing.assert_array_equal(matrix, np.concatenate([vectors(20)[kept], vectors(1, seed=5)]))
    assert digests == [*(f"h{n}" for n in kept), None]
    assert max(len(each) for each in collection.export(batch)) <= batch
    assert everything(collection)[0] == list(collection.documents())


@pytest.mark.parametrize("location", ["folder"], indirect=True)  # Qdrant has no snapshots to read
def test_an_export_is_one_state_whoever_writes_and_compacts(collection, documents, vectors):
    for start in range(0, 60, 20):
        collection.upsert(documents(range(start, start + 20)), vectors(60)[start : start + 20])
    iteration = collection.export(8)
    first = next(iteration)
    collection.delete([f"d{n}" for n in range(40)])
    collection.upsert(documents(range(50, 70)), vectors(20, seed=2))
    assert collection.compact() > 0
    rest = list(iteration)
    assert [document.id for each in (first, *rest) for document in each.documents] == [f"d{n}" for n in range(60)]
    np.testing.assert_array_equal(np.concatenate([each.vectors for each in (first, *rest)]), vectors(60))
    assert collection.verify().ok


def test_kept_pictures_come_as_bytes_so_that_another_collection_takes_them(collection, tmp_path, vectors):
    held = Document("p", Content((Image(data=PICTURE),)))
    left = Document("q", Content((Image(path=tmp_path / "elsewhere.png"),)))
    collection.upsert([held, left], vectors(2), ["a", "b"])
    found, matrix, digests = everything(collection)
    assert found == [held, left]
    other = open_collection(tmp_path / "other", mode="create", encoder=collection.info().encoder)
    other.upsert(found, matrix, digests)
    assert everything(other)[0] == [held, left]
    assert other.get(["p"])["p"].content.images[0].path.is_relative_to(tmp_path / "other")
    other.close()


def test_vectors_by_id(collection, documents, vectors):
    collection.upsert(documents(range(6)), vectors(6))
    collection.upsert(documents([2]), vectors(1, seed=9))
    found = collection.vectors(["d2", "nobody", "d5"])
    assert set(found) == {"d2", "d5"}
    np.testing.assert_array_equal(found["d2"], vectors(1, seed=9)[0])
    np.testing.assert_array_equal(found["d5"], vectors(6)[5])
    assert collection.vectors([]) == {}


def test_a_batch_of_nothing_is_refused(collection):
    with pytest.raises(InputError, match="at least 1 document"):
        list(collection.export(0))
    assert list(collection.export(1)) == []


def test_a_document_is_given_as_it_was(collection, vectors):
    document = Document("c", Content.of("words"), {"n": 1}, "parent")
    collection.upsert([document], vectors(1))
    assert everything(collection)[0] == [replace(document)]
