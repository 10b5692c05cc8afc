"""The parts of a collection in Qdrant: locations, words, verification, pictures, options."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseek import Content, Document, Image
from mmseek.errors import CollectionLocked, CorruptCollection, FormatTooNew, MissingExtra, SpecError
from mmseek.index import open_collection
from mmseek.index.qdrant import opening
from mmseek.index.qdrant.location import is_qdrant, parse_location
from mmseek.index.qdrant.meta import META_ID
from mmseek.index.qdrant.store import Options, Point, Sparse, point_id
from mmseek.index.qdrant.terms import Tokenizer

WORDS = ["apple", "pear", "plum", "fig", "running", "runs", "Café", "the"]


@pytest.fixture
def memory(tmp_path):
    return f"qdrant-local::memory:{tmp_path}"


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("qdrant://host/name", "qdrant://host:6333/name"),
        ("qdrant://10.0.0.1:7000/a-b_c.d", "qdrant://10.0.0.1:7000/a-b_c.d"),
        ("qdrant+https://host:443/name", "qdrant+https://host:443/name"),
        ("qdrant://[::1]:6333/name", "qdrant://[::1]:6333/name"),
        ("qdrant-local::memory:", "qdrant-local::memory:default"),
        ("qdrant-edge:/a/b?c", "qdrant-edge:/a/b?c"),
    ],
)
def test_locations(location, shown):
    assert is_qdrant(location)
    assert str(parse_location(location)) == shown


def test_options():
    place = parse_location("qdrant://h/n?shard_number=6&replication_factor=2&quantization=int8&exact=true&on_disk=TRUE")
    assert place.options == Options(6, 2, "int8", on_disk=True, exact=True)
    assert str(place) == "qdrant://h:6333/n"


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("qdrant:", "no address"),
        ("qdrant://", "no address"),
        ("qdrant://host", "no name"),
        ("qdrant://host/a/b", "no name"),
        ("qdrant://host/a b", "no name"),
        ("qdrant://host:port/a", "no address"),
        ("qdrant://host:99999/a", "no address"),
        ("qdrant://me:secret@host/a", "no user or password"),
        ("qdrant-edge:", "needs the path"),
        ("qdrant-local:folder", "pickles"),
        ("qdrant://h/n?shards=2", "'shards' is no option"),
        ("qdrant://h/n?shard_number=0", "at least 1"),
        ("qdrant://h/n?exact=maybe", "true or false"),
        ("qdrant://h/n?quantization=half", "int8 or binary"),
    ],
)
def test_bad_locations(location, words):
    with pytest.raises(SpecError, match=words) as caught:
        open_collection(location)
    assert "secret" not in str(caught.value)


def test_folders_are_no_qdrant(tmp_path):
    assert not is_qdrant(tmp_path)
    assert not is_qdrant("my.index")
    assert not is_qdrant("qdrant-edges/x")


def test_a_missing_extra_names_the_command(monkeypatch):
    monkeypatch.setattr(opening, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'mmseek\[qdrant\]'"):
        open_collection("qdrant://host/name")


def test_points_depend_on_the_id_alone():
    assert point_id("a") == point_id("a") != point_id("b")
    assert len({point_id(f"d{n}") for n in range(10_000)}) == 10_000


@settings(max_examples=60)
@given(st.lists(st.text(max_size=30), max_size=5))
def test_terms_are_those_of_the_index_of_words(texts):
    """FTS5 finds a document by each of its terms, and counts as many of them."""
    counts = Tokenizer().count([text.encode("utf-8", "replace").decode() for text in texts])
    assert len(counts) == len(texts)
    alone = [Tokenizer().count([text.encode("utf-8", "replace").decode()])[0] for text in texts]
    assert counts == alone


def test_words_rank_as_in_a_folder(tmp_path, memory, identity, vectors):
    """Scores and order are those of the embedded collection, whatever is replaced and deleted on the way."""
    chance = random.Random(5)
    folder = open_collection(tmp_path / "folder", mode="create", encoder=identity)
    qdrant = open_collection(memory, mode="create", encoder=identity)
    for round_ in range(6):
        names = chance.sample(range(120), 30)
        # Short texts first and long ones later: the mean length moves away from the one that was begun with.
        texts = [" ".join(chance.choices(WORDS, k=chance.randint(0, 4 + 12 * round_))) for _ in names]
        documents = [Document(f"d{n}", Content.of(text), {"n": n}) for n, text in zip(names, texts, strict=True)]
        for collection in (folder, qdrant):
            collection.upsert(documents, vectors(30))
            collection.delete([f"d{n}" for n in names[:5]])
        for words in ("apple", "plum running", "cafe runs fig the", "pear pear unknown", "!"):
            for k in (1, 3, 200):
                limits = {"filter": "n >= 20", "exclude": ["d30"]} if k == 3 else {}
                one, other = (each.search_text(words, k, **limits) for each in (folder, qdrant))
                assert [hit.score for hit in other] == pytest.approx([hit.score for hit in one])
                assert [hit.id for hit in other] == [hit.id for hit in one]
    folder.close()
    qdrant.close()


def test_the_bound_on_scores_is_needed(memory, identity, vectors):
    """Stored weights alone would rank these the other way round: the mean length has moved far since the first."""
    with open_collection(memory, mode="create", encoder=identity) as collection:
        collection.upsert([Document("first", Content.of("kiwi"))], vectors(1))
        short = [Document(f"s{n}", Content.of("lime " + "short " * 2)) for n in range(60)]
        long = [Document(f"l{n}", Content.of("lime " * 8 + "long " * 40)) for n in range(60)]
        other = [Document(f"o{n}", Content.of("other " * 60)) for n in range(200)]
        for documents in (short, long, other):
            collection.upsert(documents, vectors(len(documents)))
        assert collection.search_text("lime", 1)[0].id == "l0"
        assert [hit.id for hit in collection.search_text("lime", 5)] == [
            hit.id for hit in collection.search_text("lime", 320)[:5]
        ]


def damage(collection, name, vector=None, **payload):
    store = collection._opened
    found = store.retrieve([point_id(name)])[0]
    if vector is None:
        vector = store.page({"has_id": [point_id(name)]}, 1, ("row",), vectors=True)[0].dense
    store.upsert([Point(found.id, {**found.payload, **payload}, vector, Sparse([1], [1.0]))])


def test_verify_sees_what_was_changed(memory, identity, documents, vectors):
    with open_collection(memory, mode="create", encoder=identity) as collection:
        collection.upsert(
            [*documents(range(6)), Document("p", Content((Image(data=b"\x89PNG\r\n\x1a\n"),)))], vectors(7)
        )
        assert collection.verify().ok
        damage(collection, "d1", item='{"content":[],"metadata":{}}')
        damage(collection, "d2", terms=["other"], counts=[1])
        damage(collection, "d3", facts=[])
        damage(collection, "d4", vector=vectors(1, seed=9)[0])
        store = collection._opened
        store.delete(_others(store))
        report = collection.verify()
        assert not report.ok
        for words in ("'d1': what is stored", "'d2': its words", "'d3': its words", "'d4': what is", "picture assets/"):
            assert sum(words in problem for problem in report.problems) == 1, (words, report.problems)
        assert len(report.problems) == 5


def _others(store):
    points, _ = store._client.scroll(store.name, limit=100, with_payload=True)
    return [str(point.id) for point in points if "asset" in point.payload]


def test_a_newer_format_and_a_damaged_description(memory, identity):
    with open_collection(memory, mode="create", encoder=identity) as collection:
        store = collection._opened
        said = dict(store.retrieve([META_ID])[0].payload)
        store.upsert([Point(META_ID, {**said, "format_version": 99})])
        with pytest.raises(FormatTooNew, match="upgrade"):
            open_collection(memory)
        store.upsert([Point(META_ID, {**said, "dim": None})])
        with pytest.raises(CorruptCollection, match="whose vectors"):
            open_collection(memory)


def test_one_writer_in_memory(memory, identity):
    with open_collection(memory, mode="create", encoder=identity), pytest.raises(CollectionLocked):
        open_collection(memory, mode="write")
    open_collection(memory, mode="write").close()


def test_large_pictures_are_kept_in_pieces(fake_qdrant, identity, vectors):
    data = b"\xff\xd8\xff" + random.Random(1).randbytes(7_000_000)
    with open_collection(fake_qdrant.location(), mode="create", encoder=identity) as collection:
        for _ in range(2):
            collection.upsert([Document("p", Content((Image(data=data),)))], vectors(1))
        (picture,) = collection.get(["p"])["p"].content.images
        assert picture.path.read_bytes() == data
        picture.path.write_bytes(b"something else")  # the copy on this machine
        (picture,) = collection.get(["p"])["p"].content.images
        assert picture.path.read_bytes() == data
        assert collection.verify().ok
    assert sum("/points?" in line for line in fake_qdrant.log) == 1 + 3 + 2  # description, pieces once, documents


@pytest.mark.parametrize("quantization", ["int8", "binary"])
def test_quantised_vectors_are_ranked_by_the_full_ones(tmp_path, identity, documents, vectors, quantization):
    place = f"qdrant-edge:{tmp_path / 'edge'}?quantization={quantization}&hnsw_ef=256"
    values = vectors(300)
    with open_collection(place, mode="create", encoder=identity) as collection:
        collection.upsert(documents(range(300)), values)
        collection.compact()
        assert collection.verify().ok
        hits = collection.search(values[7], 10)
    exact = values @ values[7]
    assert hits[0].id == "d7"
    assert [hit.score for hit in hits] == pytest.approx([exact[int(hit.id[1:])] for hit in hits], abs=1e-5)
    wanted = {f"d{n}" for n in np.argsort(-exact)[:10]}
    assert len(wanted & {hit.id for hit in hits}) >= (9 if quantization == "int8" else 3)


def test_a_graph_finds_what_an_exact_search_finds(tmp_path, identity):
    """Past Qdrant's threshold `compact` builds the graph: then recall is what it is, and it is high."""
    chance = np.random.default_rng(3)
    # The threshold counts bytes: long vectors pass it with few documents.
    identity = type(identity)(identity.spec, identity.fingerprint, 4096)
    values = chance.standard_normal((700, 4096)).astype(np.float32)
    place = f"qdrant-edge:{tmp_path / 'edge'}"
    with open_collection(place, mode="create", encoder=identity) as collection:
        for low in range(0, len(values), 350):
            some = [Document(f"d{n}", Content(()), {"n": n}) for n in range(low, low + 350)]
            collection.upsert(some, values[low : low + 350])
        collection.compact()
        assert collection._opened._shard.info().indexed_vectors_count > 0
        assert "nums" in " ".join(collection._opened.indexed())
        queries = values[:20] + 0.3 * chance.standard_normal((20, 4096)).astype(np.float32)
        found = 0
        for query in queries:
            exact = np.argsort(-(values @ query))[:10]
            found += len({f"d{n}" for n in exact} & {hit.id for hit in collection.search(query, 10)})
        assert found >= 150
        assert [hit.id for hit in collection.search(queries[0], 5, filter="n == 699")] == ["d699"]
        assert len(collection.search(queries[0], 10, filter="n >= 690")) == 10
