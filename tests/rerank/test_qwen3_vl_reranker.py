"""`qwen3-vl-reranker` against scores of the published code; prompt, truncation and batches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmseek._types import Content, Image, Pair, Scored, Text
from mmseek.errors import InputError, MediaError, ModelError
from mmseek.items import parse_item
from mmseek.rerank import load_reranker
from mmseek.rerank.qwen3_vl import Qwen3VLReranker, render, truncated

PICTURE = "<|vision_start|><|image_pad|><|vision_end|>"


@pytest.fixture(scope="module")
def reranker(oracle: Path) -> Qwen3VLReranker:
    loaded = load_reranker(f"qwen3-vl-reranker:{oracle / 'checkpoint'}", device="cpu")
    assert isinstance(loaded, Qwen3VLReranker)
    return loaded


@pytest.fixture(scope="module")
def pairs(oracle: Path) -> list[Pair]:
    def content(item: dict[str, object]) -> Content:
        return parse_item(item, base=oracle).content if item else Content(())

    rows = map(json.loads, (oracle / "pairs.jsonl").read_text(encoding="utf-8").splitlines())
    return [Pair(content(row["query"]), content(row["document"]), row.get("instruction")) for row in rows]


def values(outcomes: list[Scored]) -> list[float]:
    assert [each.error for each in outcomes] == [None] * len(outcomes)
    return [each.score for each in outcomes if each.score is not None]


def test_scores_are_those_of_the_published_code(reranker: Qwen3VLReranker, pairs: list[Pair], oracle: Path) -> None:
    expected = np.load(oracle / "expected.npy", allow_pickle=False)
    assert len(expected) == 12
    np.testing.assert_allclose(values(list(reranker.stream(pairs))), expected, atol=1e-5, rtol=0)


def test_batch_and_order_change_nothing(
    reranker: Qwen3VLReranker, pairs: list[Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [value for pair in pairs for value in values(list(reranker.stream([pair])))]
    monkeypatch.setattr("mmseek.rerank.mllm.engine._CPU_BUDGET", 10**6)  # all in one batch
    np.testing.assert_allclose(values(list(reranker.stream(pairs))), alone, atol=1e-5, rtol=0)
    np.testing.assert_allclose(values(list(reranker.stream(pairs[::-1]))), alone[::-1], atol=1e-5, rtol=0)


def test_one_score_a_document_and_the_instruction_counts(reranker: Qwen3VLReranker, oracle: Path) -> None:
    picture = Image(path=oracle / "images" / "sq_224.png")
    documents = [
        Content((picture, Text("a cat"), Text(" and a dog"), picture)),
        Content((picture,)),
        Content(()),
        Content.of("a cat"),
    ]
    query = Content((Text("what"), picture))
    plain = reranker.score(query, documents)
    assert (plain.shape, plain.dtype) == ((4,), np.float32)
    told = reranker.score(query, documents, "Find the same picture.")
    assert np.abs(plain - told).max() > 1e-3
    np.testing.assert_array_equal(reranker.score(query, []), np.empty(0, dtype=np.float32))


def test_a_bad_document_fails_alone(reranker: Qwen3VLReranker, tmp_path: Path) -> None:
    bad = Content.of(tmp_path / "gone.png")
    marked = Content.of("this <|image_pad|> is no picture")
    query = Content.of("a dog")
    outcomes = list(reranker.stream(Pair(query, each) for each in (bad, Content.of("a"), marked)))
    assert isinstance(outcomes[0].error, MediaError)
    assert outcomes[1].score is not None
    assert isinstance(outcomes[2].error, InputError)
    with pytest.raises(MediaError, match=r"^document 1: .*gone\.png"):
        reranker.score(query, [Content.of("a"), bad])


def test_the_prompt_byte_for_byte() -> None:
    system = (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
        'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
    )
    end = "<|im_end|>\n<|im_start|>assistant\n"
    image = Image(path=Path("x.png"))
    assert render(Pair(Content((Text("a "), image, Text("b"))), Content((Text("d"), image)), "I")).text(PICTURE) == (
        f"{system}<Instruct>: I<Query>:{PICTURE}a b\n<Document>:{PICTURE}d{end}"
    )
    default = "Given a search query, retrieve relevant candidates that answer the query."
    for nothing in (None, ""):
        assert render(Pair(Content((image,)), Content(()), nothing)).text(PICTURE) == (
            f"{system}<Instruct>: {default}<Query>:{PICTURE}\n<Document>:NULL{end}"
        )


def test_a_long_text_is_cut_and_the_end_of_the_prompt_stays(reranker: Qwen3VLReranker) -> None:
    short = Qwen3VLReranker(reranker.backbone, reranker.head, identity=reranker.identity)
    short.max_tokens = 200
    long = Pair(Content.of("a dog"), Content.of("a cat " * 400))
    tokens = short.prepare(long).payload.numbers
    whole = reranker.prepare(long).payload.numbers
    assert len(tokens) == 205
    assert list(tokens[-5:]) == list(whole[-5:])
    (score,) = short.score(long.query, [long.document])
    assert np.isfinite(score)


@given(st.lists(st.integers(0, 9), min_size=5, max_size=60), st.integers(0, 40), st.frozensets(st.integers(0, 9)))
def test_truncation_keeps_special_tokens_and_order(tokens: list[int], most: int, special: frozenset[int]) -> None:
    head = tokens[:-5]
    if len(head) > most and sum(token in special for token in head) > most:
        with pytest.raises(InputError, match="give fewer"):
            truncated(tokens, most, special)
        return
    kept = truncated(tokens, most, special)
    assert kept[-5:] == tokens[-5:]
    assert len(kept) - 5 == min(len(head), most)
    assert [token for token in kept[:-5] if token in special] == [token for token in head if token in special]
    plain = [token for token in head if token not in special]
    cut = [token for token in kept[:-5] if token not in special]
    assert cut == plain[: len(cut)]


def test_what_is_no_whole_checkpoint_is_refused(cross_encoder: Path, oracle: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a bert model"):
        load_reranker(f"qwen3-vl-reranker:{cross_encoder}")
    for file in (oracle / "checkpoint").iterdir():
        if file.name != "tokenizer.json":
            (tmp_path / file.name).symlink_to(file)
    with pytest.raises(ModelError, match=r"has no tokenizer\.json"):
        load_reranker(f"qwen3-vl-reranker:{tmp_path}")


def test_a_score_that_is_no_number_is_an_error(reranker: Qwen3VLReranker) -> None:
    broken = Qwen3VLReranker(reranker.backbone, lambda states: states[:, 0] * np.nan, identity=reranker.identity)
    outcome = next(iter(broken.stream([Pair(*[Content.of("a")] * 2)])))
    assert outcome.score is None
    assert "no usable score" in str(outcome.error)
