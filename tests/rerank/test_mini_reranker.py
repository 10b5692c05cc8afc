from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from safetensors.torch import save_file

import mmseek
from mmseek import Content, Image, load_encoder
from mmseek._types import Pair, Sent
from mmseek.embed.mini.colours import COLOURS, colours
from mmseek.embed.mini.look import MiniLook
from mmseek.errors import InputError, MediaError, ModelError, SpecError
from mmseek.protocols import Explaining, Reranker
from mmseek.rerank import load_reranker
from mmseek.rerank.mini import reranker as module
from mmseek.rerank.mini.lexical import inverse_frequencies, lexical_score
from mmseek.rerank.mini.memory import Memory
from mmseek.rerank.mini.reranker import PICTURE_WEIGHT, WORDS_WEIGHT, MiniReranker
from mmseek.rerank.mini.scorer import WEIGHTS, load_scorer

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"

Pieces = st.lists(st.integers(0, 40), max_size=60)


@pytest.fixture(scope="module")
def mini() -> MiniReranker:
    loaded = mmseek.load_reranker("mini")
    assert isinstance(loaded, MiniReranker)
    return loaded


@pytest.fixture(scope="module")
def look() -> MiniLook:
    return MiniLook.load()


def _picture(colour: tuple[int, int, int], size: tuple[int, int] = (90, 70)) -> Image:
    drawn = Pillow.new("RGB", size, "white")
    drawn.paste(colour, (20, 15, 60, 55))
    return Image.from_pil(drawn)


RED, BLUE = _picture((200, 20, 20)), _picture((20, 20, 200), (70, 120))
DOCUMENTS = [
    Content.of("a red boat on the sea"),
    Content.of(RED),
    Content.of(BLUE, "a blue square"),
    Content.of(RED, BLUE),
    Content.of("stocks fell", "on Monday"),
    Content.of(" "),
    Content(()),
    Content.of("boat " * 400),
]
QUERIES = [
    Content.of("a red boat"),
    Content.of(RED),
    Content.of(RED, "the same in blue"),
    Content.of(RED, BLUE, "both"),
]


def test_keeps_the_contract(mini: MiniReranker) -> None:
    assert isinstance(mini, Reranker)
    assert mini.identity.spec == "mini"
    for query in QUERIES:
        scores = mini.score(query, DOCUMENTS)
        assert scores.shape == (len(DOCUMENTS),)
        assert scores.dtype == np.float32
        np.testing.assert_array_equal(scores, mini.score(query, DOCUMENTS, "an instruction changes nothing"))
    assert mini.score(QUERIES[0], []).shape == (0,)


def test_scores_do_not_depend_on_the_batch_or_the_order(mini: MiniReranker) -> None:
    pairs = [Pair(query, document) for query in QUERIES for document in DOCUMENTS]
    together = [each.score for each in mini.stream(pairs)]
    backwards = [each.score for each in mini.stream(pairs[::-1])][::-1]
    alone = [float(mini.score(pair.query, [pair.document])[0]) for pair in pairs]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together, backwards, atol=1e-5)


@pytest.mark.parametrize("query", QUERIES)
def test_is_the_encoders_cosine_with_words_and_heads_added(query: Content, mini: MiniReranker, look: MiniLook) -> None:
    encoder, scorer = load_encoder("mini", device="cpu"), load_scorer()
    documents = [document for document in DOCUMENTS if document.parts]
    cosines = encoder.encode_document(documents) @ encoder.encode_query([query])[0]
    expected = [
        cosine
        + WORDS_WEIGHT * _words(query, document, look, scorer)
        + PICTURE_WEIGHT * _head(query, document, look, scorer)
        for cosine, document in zip(cosines, documents, strict=True)
    ]
    np.testing.assert_allclose(mini.score(query, documents), expected, atol=1e-5)


def _words(query: Content, document: Content, look: MiniLook, scorer: Any) -> float:
    """BM25 over the sides' own word pieces, written out; 0 where a side has no text."""
    sides = [[piece for text in side.texts for piece in look.pieces(text)[1:-1]] for side in (query, document)]
    if not all(side.texts for side in (query, document)):
        return 0.0
    weight = scorer.piece_weights
    total, found = 0.0, 0.0
    for piece in set(sides[0]):
        count = sides[1].count(piece)
        total += float(weight[piece])
        found += float(weight[piece]) * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * len(sides[1]) / 200))
    return found / total


@torch.inference_mode()
def _head(query: Content, document: Content, look: MiniLook, scorer: Any) -> float:
    """The best cosine of the head that fits; 0 where the query has no text or the document no picture."""
    if not query.texts or not document.images:
        return 0.0
    text = torch.from_numpy(look.texts([look.pieces(query.texts[0])]))

    def seen(images: Sequence[Image]) -> Any:
        return torch.cat([scorer.scaled(torch.from_numpy(look.pictures([look.pixels(image)]))) for image in images])

    if query.images:
        wanted = scorer.composed.queries(text, seen(query.images).mean(0, keepdim=True))
        return max(float((scorer.composed.pictures(each[None]) @ wanted.T).item()) for each in seen(document.images))
    wanted = scorer.words.queries(text)
    return max(float((scorer.words.pictures(each[None]) @ wanted.T).item()) for each in seen(document.images))


def test_a_picture_alone_is_scored_by_the_cosine_alone(mini: MiniReranker) -> None:
    assert float(mini.score(Content.of(RED), [Content.of(RED)])[0]) == pytest.approx(1, abs=1e-5)


def test_tells_what_it_reads_of_a_pair(mini: MiniReranker) -> None:
    assert isinstance(mini, Explaining)
    assert mini.sent(Pair(Content.of(RED, "in blue"), Content.of("a boat", BLUE))) == Sent(
        prompt="<picture>\nin blue\na boat\n<picture>", picture_tokens=(1, 1), tokens=10
    )


def test_a_broken_picture_fails_alone(mini: MiniReranker) -> None:
    broken = Content.of(Image(data=b"\x89PNG nothing more"))
    good, bad = mini.stream([Pair(QUERIES[0], DOCUMENTS[1]), Pair(QUERIES[0], broken)])
    assert good.error is None
    assert isinstance(bad.error, MediaError)
    with pytest.raises(InputError, match="neither text nor image"):
        mini.score(Content.of(" "), DOCUMENTS[:1])


def test_a_picture_is_looked_at_once(look: MiniLook, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    opened: list[Image] = []
    pictures, pixels = look.pictures, look.pixels
    monkeypatch.setattr(look, "pictures", lambda batch: (seen.append(len(batch)), pictures(batch))[1])
    monkeypatch.setattr(look, "pixels", lambda image: (opened.append(image), pixels(image))[1])
    reranker = MiniReranker(look, load_scorer(), fingerprint="f")
    first = reranker.score(Content.of(RED, "in blue"), [Content.of(BLUE), Content.of(RED), Content.of(BLUE)])
    assert (sum(seen), len(opened)) == (2, 3)  # the query's RED is a content of its own
    np.testing.assert_array_equal(
        first, reranker.score(Content.of(RED, "in blue"), [Content.of(BLUE), Content.of(RED), Content.of(BLUE)])
    )
    assert (sum(seen), len(opened)) == (2, 3)


def test_a_changed_file_is_looked_at_anew(mini: MiniReranker, tmp_path: Path) -> None:
    place = tmp_path / "picture.png"
    query = Content.of("red")
    Pillow.new("RGB", (50, 50), "red").save(place)
    red = mini.score(query, [Content.of(place)])
    Pillow.new("RGB", (60, 50), "blue").save(place)
    assert mini.score(query, [Content.of(place)]) != red


def test_the_memory_forgets_what_was_not_asked_for_longest() -> None:
    memory: Memory[str] = Memory(2)

    def make(keys: Sequence[str]) -> dict[str, Any]:
        asked.append(list(keys))
        return {key: np.array([ord(key)], dtype=np.float32) for key in keys}

    asked: list[list[str]] = []
    for keys in (["a", "b", "a"], ["a", "c"], ["a", "b"]):
        rows = memory.rows(keys, make)
        assert {key: float(row[0]) for key, row in rows.items()} == {key: float(ord(key)) for key in keys}
    assert asked == [["a", "b"], ["c"], ["b"]]
    assert len(memory) == 2


@given(Pieces, Pieces)
def test_shared_words_are_a_share(query: list[int], document: list[int]) -> None:
    weights = np.linspace(0.1, 5, 41, dtype=np.float32)
    score = lexical_score(query, document, weights)
    assert 0 <= score < 2.2
    assert (score > 0) == bool(set(query) & set(document))
    assert score == lexical_score(query[::-1], document[::-1], weights)


def test_rare_pieces_weigh_more() -> None:
    weights = inverse_frequencies([[1, 2], [1, 3, 3], [1]], 5)
    assert weights[2] == pytest.approx(math.log(1 + 2.5 / 1.5))
    assert weights[1] < weights[2] == weights[3] < weights[4]
    assert lexical_score([1, 2], [2], weights) > lexical_score([1, 2], [1], weights)


def test_colours_of_equal_spreads_are_equal() -> None:
    plain = [np.asarray(Pillow.new("RGB", (112, 112), colour)) for colour in ("red", "blue")]
    red, blue = colours(torch.from_numpy(np.stack(plain)))
    assert red.shape == (COLOURS,)
    assert float(red @ red) == pytest.approx(2)
    assert float(red @ blue) == 0


def test_the_fingerprint_holds_encoder_weights_and_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = module.fingerprint("encoder")
    other = tmp_path / "other.safetensors"
    other.write_bytes(WEIGHTS.read_bytes() + b" ")
    assert len({first, module.fingerprint("another"), module.fingerprint("encoder", other)}) == 3
    monkeypatch.setattr(module, "WORDS_WEIGHT", 0.5)
    assert module.fingerprint("encoder") != first


def test_weights_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_scorer(tmp_path / "missing.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(WEIGHTS.read_bytes()[:1000])
    with pytest.raises(ModelError, match="install mmseek anew"):
        load_scorer(tmp_path / "cut.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "new.safetensors", metadata={"version": "99"})
    with pytest.raises(ModelError, match="version 99"):
        load_scorer(tmp_path / "new.safetensors")


def test_the_room_alone_cannot_load_it() -> None:
    with pytest.raises(SpecError, match=r"mmseek\.load_reranker\('mini'\)"):
        load_reranker("mini")


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the data sets in ../shared/data")
def test_it_helps_where_pictures_are_asked_for(mini: MiniReranker) -> None:
    from mmseek.evaluation import load_dataset

    data = load_dataset(DATA / "apparel_women", "dev")
    documents = [each for each in data.corpus() if not isinstance(each, Exception)]
    encoder = load_encoder("mini")
    vectors = encoder.encode_document([document.content for document in documents])
    before = after = 0.0
    for query in data.queries:
        cosines = vectors @ encoder.encode_query([query.content])[0]
        first = [documents[row] for row in np.argsort(-cosines) if documents[row].id not in query.exclude][:50]
        second = np.argsort(-mini.score(query.content, [document.content for document in first]), kind="stable")
        before += _hit(first, data.qrels[query.id])
        after += _hit([first[row] for row in second], data.qrels[query.id])
    assert after > before * 1.1  # 50 of 77 queries, 44 without


def _hit(documents: Sequence[mmseek.Document], relevant: Any) -> bool:
    return any(document.id in relevant for document in documents[:5])
