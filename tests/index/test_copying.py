"""Copies between all kinds of collection."""

from __future__ import annotations

import numpy as np
import pytest

from mmseek import Content, Document, EncoderIdentity, Image, Text
from mmseek.errors import CollectionExists, CorruptCollection, EncoderMismatch, InputError
from mmseek.index import CopyReport, copy_collection, open_collection


@pytest.fixture
def source(tmp_path, identity, vectors):
    with open_collection(tmp_path / "source", mode="create", encoder=identity) as made:
        picture = tmp_path / "own.png"
        picture.write_bytes(b"\x89PNG\r\n\x1a\nown")
        documents = [Document(f"d{n}", Content.of(f"text {n}"), {"n": n, "big": 2**70}) for n in range(20)]
        documents[3] = Document("d3", Content((Image(data=b"GIF8 kept"), Text("x"), Image(path=picture))), {}, "d1")
        made.upsert(documents, vectors(20), [None if n % 3 else f"h{n}" for n in range(20)])
        made.upsert(documents[5:7], vectors(2, seed=4))
        made.delete(["d9"])
        yield made


def alike(source, target):
    assert [document.id for document in target.documents()] == [document.id for document in source.documents()]
    names = [document.id for document in source.documents()]
    assert target.digests(names) == source.digests(names)
    for one, other in zip(source.export(7), target.export(7), strict=True):
        assert np.array_equal(one.vectors, other.vectors)
    one, other = (each.get(["d3"])["d3"].content for each in (source, target))
    assert other.images[0].path.read_bytes() == b"GIF8 kept"
    assert other.images[0].path != one.images[0].path
    assert other.images[1] == one.images[1]
    assert target.verify().ok


def test_there_and_back(source, collection, tmp_path, identity):
    told = []
    assert copy_collection(source, collection, batch_size=6, on_progress=told.append) == CopyReport(19, 0)
    assert told == [6, 12, 18, 19]
    alike(source, collection)
    with open_collection(tmp_path / "back", mode="create", encoder=identity) as back:
        copy_collection(collection, back)
        alike(collection, back)
    assert copy_collection(source, collection) == CopyReport(0, 19)


def test_a_stopped_copy_goes_on(source, collection):
    class Stop(Exception):
        pass

    def stop(number):
        if number == 8:
            raise Stop

    with pytest.raises(Stop):
        copy_collection(source, collection, batch_size=4, on_progress=stop)
    assert copy_collection(source, collection, batch_size=5) == CopyReport(11, 8)
    alike(source, collection)


def test_what_is_something_else_is_left_alone(source, collection, documents, vectors):
    collection.upsert(documents([1]), vectors(1))
    with pytest.raises(CollectionExists, match="'d1'"):
        copy_collection(source, collection)
    assert collection.info().documents == 1


def test_refusals(source, collection, tmp_path, identity):
    with pytest.raises(InputError, match="at least 1"):
        copy_collection(source, collection, batch_size=0)
    with pytest.raises(InputError, match="at least 1"):
        list(source.export(0))
    other = EncoderIdentity("mini", "0" * 64, identity.dim)
    with (
        open_collection(tmp_path / "other", mode="create", encoder=other) as wrong,
        pytest.raises(EncoderMismatch),
    ):
        copy_collection(source, wrong)


def test_a_copy_that_is_not_equal_is_told(source, collection, vectors):
    usual = collection.upsert

    def forgetful(documents, matrix, digests):
        usual(documents, np.where(np.arange(len(matrix))[:, None] == 2, -matrix, matrix), digests)

    collection.upsert = forgetful
    with pytest.raises(CorruptCollection, match="'d2'"):
        copy_collection(source, collection)
