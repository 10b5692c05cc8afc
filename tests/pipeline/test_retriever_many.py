"""Many queries through one retriever give what each gives alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmseek import Content, Document, Query
from mmseek.errors import EncodeError, InputError
from mmseek.pipeline import Retriever
from mmseek.testing import FakeEncoder, FakeReranker, FakeTokenEncoder

TEXTS = ("a red bike", "a blue car", "a green tree", "a red car", "two trees")
QUERIES = [
    "a red car",
    Content.of("a green tree"),
    Query(Content.of("a blue car"), k=3),
    Query(Content.of("trees"), mode="hybrid", k=3),
    Query(Content.of("red"), mode="lexical", k=3),
    Query(Content.of("a red car"), k=3, filter="n > 2"),
    Query(Content.of("a red car"), k=3, exclude=frozenset({"d3"})),
    Query(Content.of("a blue car"), k=3, instruction="find photos"),
    Query(Content.of("a red car"), like=("d1",), unlike=("d2",), k=2),
    Query(Content.of("a red car"), group_by="parent", k=2),
    "a blue car",
]


def filled(encoder: FakeEncoder | FakeTokenEncoder, folder: Path) -> Retriever:
    opened = Retriever.open(folder, encoder, mode="create")
    opened.add([Document(f"d{n}", Content.of(text), {"n": n}, f"p{n % 2}") for n, text in enumerate(TEXTS)])
    return opened


def alone(retriever: Retriever, query: Query | Content | str, k: int) -> list[tuple[str, float]]:
    result = retriever.search(query) if isinstance(query, Query) else retriever.search(query, k=k)
    return [(hit.id, hit.score) for hit in result]


@pytest.mark.parametrize("reranked", [False, True])
def test_each_finds_what_it_finds_alone(tmp_path: Path, reranked: bool) -> None:
    with filled(FakeEncoder(), tmp_path / "c") as opened:
        retriever = Retriever(
            opened.encoder,
            opened.collection,
            FakeReranker(lambda pair: float(len(pair.document.text))) if reranked else None,
        )
        queries = [query for query in QUERIES if not (reranked and isinstance(query, Query) and query.is_mixed)]
        found = retriever.search_many(queries, k=4)
        for query, result in zip(queries, found, strict=True):
            assert [(hit.id, hit.score) for hit in result] == alone(retriever, query, 4)
            assert result.took_ms > 0
        assert len(found[0]) == 4
        assert retriever.search_many([]) == []


def test_a_vector_for_each_token(tmp_path: Path) -> None:
    with filled(FakeTokenEncoder(), tmp_path / "c") as retriever:
        found = retriever.search_many(["a red car", "trees", "a blue car"], k=2)
        for query, result in zip(("a red car", "trees", "a blue car"), found, strict=True):
            assert [(hit.id, hit.score) for hit in result] == alone(retriever, query, 2)


def test_plain_queries_are_encoded_in_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with filled(FakeEncoder(), tmp_path / "c") as retriever:
        calls: list[int] = []
        encode = FakeEncoder.encode_query

        def counting(self, contents, instruction=None):  # type: ignore[no-untyped-def]
            calls.append(len(contents))
            return encode(self, contents, instruction)

        monkeypatch.setattr(FakeEncoder, "encode_query", counting)
        retriever.search_many(["a", "b", "c", Query(Content.of("d"))])
        assert calls == [4]


def test_the_first_that_cannot_be_answered_is_an_error(tmp_path: Path) -> None:
    with filled(FakeEncoder(fail_on="broken"), tmp_path / "c") as retriever:
        with pytest.raises(EncodeError):
            retriever.search_many(["fine", "broken"])
        with pytest.raises(InputError, match="neither text nor image"):
            retriever.search_many(["fine", " "])
