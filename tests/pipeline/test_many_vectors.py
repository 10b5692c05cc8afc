"""Encoders that give a vector for each token: indexed, searched, and kept apart from the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmseek import Content, Document, Query, Weighted
from mmseek.embed.token_pooling import pool_tokens
from mmseek.errors import EncoderMismatch, InputError
from mmseek.index import open_collection
from mmseek.index.tokens.maxsim import exact_maxsim
from mmseek.pipeline import Retriever, index_corpus, tune_collection
from mmseek.pipeline.encoders import load_any, stored_identity
from mmseek.pipeline.reembedding import reembed_collection
from mmseek.protocols import Collection, MultiVectorEncoder
from mmseek.testing import FakeEncoder, FakeReranker, FakeTokenEncoder

ENCODER = FakeTokenEncoder()
TEXTS = {
    "bike": "a red bike on the road",
    "boat": "a blue boat on the sea",
    "car": "a red car",
    "sea": "the sea is blue and wide",
    "page1": "how to mend a bike",
    "page2": "bike tyres and a pump",
}


def documents() -> list[Document]:
    return [
        Document(name, Content.of(text), {"words": len(text.split())}, "manual" if name.startswith("page") else None)
        for name, text in TEXTS.items()
    ]


@pytest.fixture
def retriever(tmp_path: Path) -> Iterator[Retriever]:
    with Retriever.open(tmp_path / "many", ENCODER, mode="create") as opened:
        assert opened.add(documents()).indexed == len(TEXTS)
        yield opened


def maxsim(query: str, text: str) -> float:
    asked, stored = ENCODER.encode_query_tokens([Content.of(query), Content.of(text)])
    return exact_maxsim(asked, stored.astype(np.float16))


def test_it_is_an_encoder_of_many_vectors() -> None:
    assert isinstance(ENCODER, MultiVectorEncoder)
    assert stored_identity(ENCODER).multi_vector
    assert not stored_identity(FakeEncoder()).multi_vector


def test_a_query_finds_what_has_its_words(retriever: Retriever) -> None:
    found = retriever.search("red bike", k=3)
    assert found.hits[0].id == "bike"
    assert found.hits[0].score == pytest.approx(maxsim("red bike", TEXTS["bike"]), abs=1e-6)
    assert retriever.collection.info().tokens == sum(len(text.split()) for text in TEXTS.values())
    assert {"encode", "search"} == set(found.timings)
    assert retriever.add(documents()).unchanged == len(TEXTS)


def test_filters_words_groups_and_rerankers_work(retriever: Retriever) -> None:
    assert [hit.id for hit in retriever.search("red bike", filter="words == 3")] == ["car"]
    assert "bike" not in [hit.id for hit in retriever.search("red bike", exclude=["bike"])]
    hybrid = retriever.search("red bike", mode="hybrid", k=2).hits[0]
    assert set(hybrid.scores) == {"dense", "lexical"}
    grouped = retriever.search("mend a bike with a pump", group_by="parent")
    assert len([hit for hit in grouped if hit.document.parent_id == "manual"]) == 1
    judge = FakeReranker(lambda pair: float("boat" in pair.document.text))
    ranked = Retriever(ENCODER, retriever.collection, judge).search("red bike", k=2)
    assert ranked.hits[0].id == "boat"


def test_mixed_queries_are_sums_of_their_parts(retriever: Retriever) -> None:
    mixed = retriever.search("red", also=[Weighted(Content.of("sea"), 2.0)], k=6)
    wanted = {name: maxsim("red", text) + 2 * maxsim("sea", text) for name, text in TEXTS.items()}
    assert {hit.id: hit.score for hit in mixed} == pytest.approx(wanted, abs=1e-5)
    assert retriever.search(like=["boat"], k=1).hits[0].id != "boat"
    assert retriever.search(Query(Content.of(), like=frozenset(["boat"]), k=6)).hits[0].id == "sea"
    with pytest.raises(InputError, match="no weights below 0"):
        retriever.search("red", unlike=["car"])
    with pytest.raises(InputError, match="no weights below 0"):
        retriever.search("red", also=[Weighted(Content.of("car"), -1.0)])
    with pytest.raises(InputError, match="no document 'nobody'"):
        retriever.search("red", like=["nobody"])


def test_pooling_is_remembered(tmp_path: Path) -> None:
    place = tmp_path / "pooled"
    with Retriever.open(place, ENCODER, mode="create", token_pooling=3) as opened:
        opened.add(documents())
        stored = opened.collection.vectors(["bike"])["bike"]
    whole = ENCODER.encode_document_tokens([Content.of(TEXTS["bike"])])[0]
    np.testing.assert_array_equal(stored, pool_tokens(whole, 3).astype(np.float16))
    with Retriever.open(place, ENCODER, mode="write") as again:
        assert again.collection.info().encoder.token_pooling == 3
        again.add([Document("new", Content.of(TEXTS["bike"] + " again"))])
        assert len(again.collection.vectors(["new"])["new"]) == 7 // 3
    with pytest.raises(InputError, match="made with --token-pooling 3, not 2"):
        Retriever.open(place, ENCODER, mode="write", token_pooling=2)
    with pytest.raises(InputError, match="--token-pooling is for many vectors an item"):
        Retriever.open(tmp_path / "one", FakeEncoder(), mode="create", token_pooling=2)


def test_one_kind_of_encoder_is_refused_by_the_other_kind_of_collection(
    retriever: Retriever, collection: Collection, tmp_path: Path
) -> None:
    one = FakeEncoder()
    for refuse in (
        lambda: Retriever(one, retriever.collection),
        lambda: index_corpus([], one, retriever.collection),
        lambda: Retriever.open(tmp_path / "many", one),
    ):
        with pytest.raises(InputError, match=r"gives one vector an item and .*many holds one for each token"):
            refuse()
    for refuse in (
        lambda: Retriever(ENCODER, collection),
        lambda: index_corpus([], ENCODER, collection),
        lambda: Retriever.open(tmp_path / "collection", ENCODER),
    ):
        with pytest.raises(InputError, match=r"gives a vector for each token and .*collection holds one a document"):
            refuse()
    with pytest.raises(EncoderMismatch):
        Retriever(FakeTokenEncoder(8), retriever.collection)


class BothKinds(FakeEncoder):
    encode_query_tokens = encode_document_tokens = stream_tokens = FakeTokenEncoder.stream_tokens


def test_an_encoder_of_both_kinds_gives_one_vector(collection: Collection) -> None:
    retriever = Retriever(BothKinds(), collection)
    retriever.collection.upsert([Document("a", Content.of("a"))], FakeEncoder().encode_document([Content.of("a")]))
    assert [hit.id for hit in retriever.search("a")] == ["a"]


def test_load_any_takes_the_kind_from_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmseek.pipeline.encoders.load_multi_vector_encoder", lambda spec, *, device: ("many", spec))
    monkeypatch.setattr("mmseek.pipeline.encoders.load_encoder", lambda spec, *, device: ("one", spec))
    assert load_any("colqwen2:/a") == ("many", "colqwen2:/a")
    assert load_any("mini") == ("one", "mini")


def test_tuning_measures_candidates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = np.random.default_rng(1)
    words = [f"word{n}" for n in range(60)]
    some = [Document(f"d{n}", Content.of(" ".join(chance.permutation(words)[:6]))) for n in range(200)]
    with Retriever.open(tmp_path / "c", ENCODER, mode="create") as opened:
        opened.add(some)
        told: list[str] = []
        assert tune_collection(opened.collection, ENCODER, tell=told.append).index.kind == "exact"
        assert told == ["every token of every document is compared"]
        exact = opened.search(some[0].content, k=5).hits
        monkeypatch.setattr("mmseek.pipeline.tuning.SMALL_TOKENS", 0)
        info = tune_collection(opened.collection, ENCODER, recall=0.8)
        assert info.index is not None
        assert info.index.kind == "candidates"
        assert info.index.recall >= 0.8
        assert opened.search(some[0].content, k=1).hits[0] == exact[0]
        hnsw = tune_collection(opened.collection, ENCODER, "hnsw", recall=0.6)
        assert "hnsw" in hnsw.index.settings
        assert opened.search(some[0].content, k=1).hits[0] == exact[0]
        assert opened.collection.verify().ok
        assert tune_collection(opened.collection, None, "exact").index.kind == "exact"
        assert opened.search(some[0].content, k=5).hits == exact
        with pytest.raises(InputError, match="is not the encoder of"):
            tune_collection(opened.collection, FakeEncoder(), "hnsw")


def test_reembedding_goes_both_ways(tmp_path: Path) -> None:
    with Retriever.open(tmp_path / "one", FakeEncoder(), mode="create") as opened:
        opened.add(documents())
    made = reembed_collection(tmp_path / "one", ENCODER, tmp_path / "many")
    assert made.report.indexed == len(TEXTS)
    with Retriever.open(tmp_path / "many", ENCODER) as many:
        assert many.search("blue boat").hits[0].id == "boat"
    reembed_collection(tmp_path / "many", FakeEncoder(), tmp_path / "back")
    with closing(open_collection(tmp_path / "back")) as back:
        assert back.info().encoder == FakeEncoder().identity
        assert replace(back.info().encoder, multi_vector=True) != back.info().encoder
