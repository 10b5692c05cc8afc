"""What every `Collection` owes."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image
import pytest

from mmseek import Content, Document, EncoderIdentity, Image, Text
from mmseek.errors import CollectionError, CollectionExists, EncoderMismatch, InputError, NotACollection
from mmseek.index import open_collection
from mmseek.protocols import Collection

DIM = 8


def png(colour: str) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (4, 3), colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_it_is_a_collection(collection):
    assert isinstance(collection, Collection)


def test_what_was_stored_comes_back(collection, location, documents, vectors):
    collection.upsert(documents(range(50)), vectors(50), [f"hash {n}" for n in range(50)])
    collection.close()
    again = open_collection(location)
    assert list(again.documents()) == documents(range(50))
    assert again.get(["d7", "unknown", "d3"]) == {"d7": documents([7])[0], "d3": documents([3])[0]}
    assert again.digests(["d7", "unknown"]) == {"d7": "hash 7"}
    info = again.info()
    assert (info.documents, info.modalities, info.encoder.dim) == (50, {"text": 50}, DIM)
    assert info.bytes > 50 * DIM * 4
    assert info.created_at <= info.updated_at
    assert again.verify().ok
    assert again.verify().vectors == 50
    again.close()


def test_search_ranks_by_inner_product(collection, documents, vectors):
    values = vectors(60)
    collection.upsert(documents(range(60)), values)
    query = vectors(1, seed=1)[0]
    hits = collection.search(query, 10)
    scores = values @ query
    assert [hit.id for hit in hits] == [f"d{n}" for n in np.argsort(-scores)[:10]]
    assert [hit.rank for hit in hits] == list(range(1, 11))
    assert [hit.score for hit in hits] == pytest.approx(sorted(scores, reverse=True)[:10], abs=1e-6)
    assert all(hit.scores == {"dense": hit.score} for hit in hits)
    assert [hit.document for hit in hits] == documents([int(hit.id[1:]) for hit in hits])
    assert len(collection.search(query, 1000)) == 60


def test_exclude_and_candidates(collection, documents, vectors):
    values = vectors(60)
    collection.upsert(documents(range(60)), values)
    order = [hit.id for hit in collection.search(values[0], 60)]
    assert order[0] == "d0"
    found = collection.search(values[0], 5, exclude=["d0", order[2], "unknown"])
    assert [hit.id for hit in found] == [order[1], *order[3:7]]
    chosen = {"d0", "d5", "d9", "unknown"}
    found = collection.search(values[0], 5, candidates=chosen)
    assert [hit.id for hit in found] == [name for name in order if name in chosen]
    assert [hit.rank for hit in found] == [1, 2, 3]
    found = collection.search(values[0], 5, candidates=chosen, exclude={"d0"})
    assert [hit.id for hit in found] == [name for name in order if name in chosen - {"d0"}]
    assert collection.search(values[0], 5, candidates=[]) == []


def test_upsert_replaces(collection, documents, vectors):
    collection.upsert(documents(range(10)), vectors(10), ["old"] * 10)
    collection.upsert(documents([3, 20], new=True), vectors(2, seed=5), ["new"] * 2)
    assert collection.info().documents == 11
    assert collection.digests(["d3", "d4"]) == {"d3": "new", "d4": "old"}
    assert collection.search(vectors(2, seed=5)[0], 1)[0].document == documents([3], new=True)[0]
    assert [document.id for document in collection.documents()] == [
        "d0",
        "d1",
        "d2",
        *[f"d{n}" for n in range(4, 10)],
        "d3",
        "d20",
    ]
    collection.upsert(documents([3]), vectors(1))
    assert collection.digests(["d3"]) == {}
    assert collection.verify().ok


def test_delete(collection, documents, vectors):
    collection.upsert(documents(range(10)), vectors(10))
    assert collection.delete(["d3", "d4", "d4", "unknown"]) == 2
    assert collection.delete([]) == 0
    assert collection.get(["d3", "d5"]) == {"d5": documents([5])[0]}
    assert {hit.id for hit in collection.search(vectors(1)[0], 10)} == {f"d{n}" for n in range(10) if n not in (3, 4)}
    with pytest.raises(InputError, match="list of ids"):
        collection.delete("d5")
    assert collection.delete({f"d{n}" for n in range(10)}) == 8
    assert collection.search(vectors(1)[0], 10) == []
    report = collection.verify()
    assert (report.ok, report.documents, report.vectors) == (True, 0, 0)


def test_an_empty_collection(collection, vectors):
    assert collection.search(vectors(1)[0], 3) == []
    assert list(collection.documents()) == []
    collection.upsert([], np.empty((0, DIM), dtype=np.float32))
    collection.upsert([], np.empty(0, dtype=np.float32), [])
    assert collection.verify().ok
    assert collection.info().documents == 0


def test_content_of_every_kind_comes_back(collection, location, vectors, tmp_path):
    picture = tmp_path / "a picture é.png"
    picture.write_bytes(png("red"))
    kept = [
        Document("text", Content.of("", "two \n lines\x00", "日本 👩‍🚀", "half a pair \ud800")),
        Document("path", Content((Image(path=picture), Text("caption"), Image(path=picture)))),
        Document("url", Content((Image(url="https://example.org/a.png"),)), {"nested": {"list": [1, 2.5, None, True]}}),
        Document("übung/№ 1 ' \" %s", Content.of("odd id"), {}, parent_id="text"),
        Document("empty", Content(())),
    ]
    collection.upsert(kept, vectors(len(kept)))
    collection.close()
    again = open_collection(location)
    assert list(again.documents()) == kept
    assert again.get([kept[3].id])[kept[3].id].parent_id == "text"
    assert again.info().modalities == {"image": 1, "image,text": 1, "text": 3}
    again.close()


def test_pictures_given_as_bytes_are_kept_once(collection, location, vectors):
    red, blue = png("red"), png("blue")
    collection.upsert([Document("a", Content((Image(data=red), Text("x"), Image(data=blue))))], vectors(1))
    collection.upsert([Document(name, Content((Image(data=red),))) for name in ("b", "c")], vectors(2))
    collection.close()
    again = open_collection(location)
    first, second = again.get(["a"])["a"].content.images
    assert first.path is not None
    assert second.path is not None
    assert (first.path.read_bytes(), second.path.read_bytes()) == (red, blue)
    assert first.path.suffix == ".png"
    assert again.get(["b"])["b"].content.images == (first,)
    assert again.verify().ok
    again.close()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_vector_with_nan_or_infinity_stores_nothing(collection, documents, vectors, value):
    values = vectors(5)
    values[3, 2] = value
    with pytest.raises(InputError, match="'d3'"):
        collection.upsert(documents(range(5)), values)
    values[3] = 0
    with pytest.raises(InputError, match=r"'d3'.*zero"):
        collection.upsert(documents(range(5)), values)
    assert collection.info().documents == 0


def test_bad_words_store_nothing(collection, documents, vectors):
    one = documents([1])
    with pytest.raises(InputError, match="shape"):
        collection.upsert(one, vectors(2))
    with pytest.raises(InputError, match="shape"):
        collection.upsert(one, vectors(1, dim=DIM + 1))
    with pytest.raises(InputError, match="shape"):
        collection.upsert(one, vectors(1)[0])
    with pytest.raises(InputError, match="digests"):
        collection.upsert(one, vectors(1), [])
    with pytest.raises(InputError, match="'d1' is given twice"):
        collection.upsert(documents([1, 2, 1]), vectors(3))
    with pytest.raises(InputError, match=r"'odd'.*metadata"):
        collection.upsert([Document("odd", Content.of("x"), {"set": {1, 2}})], vectors(1))
    with pytest.raises(InputError, match=r"'odd'.*metadata"):
        collection.upsert([Document("odd", Content.of("x"), {"number": float("nan")})], vectors(1))
    for name in ("", "a\x00b", "\ud800", "x" * 5000, 7):
        with pytest.raises(InputError, match="id"):
            collection.upsert([Document(name, Content.of("x"))], vectors(1))
    assert collection.info().documents == 0
    assert collection.verify().ok


def test_bad_queries(collection, documents, vectors):
    collection.upsert(documents([1]), vectors(1))
    for bad in (vectors(1), vectors(1, dim=DIM + 1)[0], np.full(DIM, np.nan, dtype=np.float32)):
        with pytest.raises(InputError, match="query vector"):
            collection.search(bad, 1)
    with pytest.raises(InputError, match="at least 1"):
        collection.search(vectors(1)[0], 0)
    with pytest.raises(InputError, match="list of ids"):
        collection.search(vectors(1)[0], 1, candidates="d1")


def test_another_encoder_is_refused_by_both_names(collection, location, identity):
    for other in (EncoderIdentity("clip:b", "0" * 64, DIM), EncoderIdentity("mini", identity.fingerprint, 9)):
        with pytest.raises(EncoderMismatch, match="mini") as caught:
            open_collection(location, encoder=other)
        assert other.spec in str(caught.value)
    collection.close()
    with pytest.raises(EncoderMismatch):
        open_collection(location, mode="write", encoder=EncoderIdentity("clip:b", "0" * 64, DIM))
    renamed = EncoderIdentity("mini@main", identity.fingerprint, DIM)  # the fingerprint counts, not the name
    open_collection(location, encoder=renamed).close()


def test_modes(location, identity, documents, vectors):
    with pytest.raises(NotACollection):
        open_collection(location)
    with pytest.raises(NotACollection, match="encoder"):
        open_collection(location, mode="write")
    open_collection(location, mode="write", encoder=identity).close()
    with pytest.raises(CollectionExists):
        open_collection(location, mode="create", encoder=identity)
    writer = open_collection(location, mode="write")
    writer.upsert(documents([1]), vectors(1))
    writer.close()
    writer.close()
    reader = open_collection(location)
    with pytest.raises(CollectionError, match="reading only"):
        reader.upsert(documents([2]), vectors(1))
    with pytest.raises(CollectionError, match="reading only"):
        reader.delete(["d1"])
    reader.close()
    for use in (lambda: reader.search(vectors(1)[0], 1), reader.info, lambda: writer.delete(["d1"])):
        with pytest.raises(CollectionError, match="closed"):
            use()


def test_a_reader_sees_each_commit(collection, location, documents, vectors):
    reader = open_collection(location)
    values = vectors(30)
    assert reader.search(values[0], 5) == []
    for n in range(0, 30, 3):
        collection.upsert(documents(range(n, n + 3)), values[n : n + 3])
        assert [hit.id for hit in reader.search(values[n], 1)] == [f"d{n}"]
    collection.delete(["d0"])
    assert reader.search(values[0], 1)[0].id != "d0"
    collection.upsert(documents([5]), -values[5:6])
    assert reader.search(-values[5], 1)[0].id == "d5"
    assert len(reader.search(values[0], 100)) == 29
    reader.close()


def test_equal_scores_are_in_the_order_of_storing(collection, documents, vectors):
    values = np.repeat(vectors(2), 60, axis=0)
    collection.upsert(documents(range(119, -1, -1)), values)
    best = 0 if values[0] @ values[0] > values[-1] @ values[0] else 60
    for k in (1, 3, 59, 61, 100):
        stored = [f"d{n}" for n in range(119, -1, -1)]
        expected = stored[:k] if best == 0 else [*stored[60:], *stored[:60]][:k]
        assert [hit.id for hit in collection.search(values[0], k)] == expected
    assert [hit.id for hit in collection.search_text("text", 3)] == ["d119", "d118", "d117"]
