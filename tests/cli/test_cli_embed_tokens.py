"""`mmseek embed` with many vectors an item: a `.npz` that is whole or not there, one array an item."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmseek._types import Encoded, EncodeRequest, EncoderIdentity
from mmseek.embed.token_pooling import pool_tokens
from mmseek.errors import EncodeError

Cli = Callable[..., Any]
Lines = Callable[..., Path]


class LetterVectors:
    """A vector a letter."""

    @property
    def identity(self) -> EncoderIdentity:
        return EncoderIdentity("colqwen2:x", "0" * 64, 4)

    def stream_tokens(self, requests: Iterable[EncodeRequest]) -> Iterator[Encoded]:
        for request in requests:
            text = request.content.text
            yield Encoded(error=EncodeError("told to fail")) if text == "unspeakable" else Encoded(vector=vectors(text))


def vectors(text: str) -> np.ndarray:
    rows = np.stack([np.random.default_rng(ord(letter)).normal(size=4) for letter in text])
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=np.float32)


@pytest.fixture(autouse=True)
def letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmseek.embed.load_multi_vector_encoder", lambda spec, *, device=None: LetterVectors())


def test_one_array_an_item(cli: Cli, tmp_path: Path, lines: Lines) -> None:
    source = lines(
        tmp_path / "items.jsonl",
        {"id": "a/b", "text": "hello"},
        {"text": "nameless"},
        "{",
        {"id": "bad", "text": "unspeakable"},
        {"id": "a/b", "text": "again"},
        {"id": "q", "text": "why", "role": "query"},
    )
    output = tmp_path / "out.npz"
    done = cli("embed", source, "-o", output, "--encoder", "colqwen2:x", "--json")
    assert done.code == 1
    with np.load(output, allow_pickle=False) as found:
        assert list(found) == ["a/b", "line 2", "q"]
        for name, text in (("a/b", "hello"), ("line 2", "nameless"), ("q", "why")):
            assert found[name].dtype == np.float32
            np.testing.assert_array_equal(found[name], vectors(text))
    told = done.document
    assert (told["arrays"], told["vectors"], told["dim"], told["failed_lines"]) == (3, 16, 4, [3, 4, 5])
    report = [json.loads(line) for line in Path(f"{output}.failures.jsonl").read_text().splitlines()]
    assert "the id 'a/b' stands in line 1 already" in report[2]["reason"]
    assert "told to fail" in report[1]["reason"]


def test_documents_are_pooled_and_queries_are_not(cli: Cli, tmp_path: Path, lines: Lines) -> None:
    source = lines(
        tmp_path / "items.jsonl", {"id": "d", "text": "abcdefgh"}, {"id": "q", "text": "abcdefgh", "role": "query"}
    )
    done = cli("embed", source, "-o", tmp_path / "out.npz", "--encoder", "colqwen2:x", "--token-pooling", 4, "--json")
    assert done.code == 0
    assert done.document["token_pooling"] == 4
    with np.load(tmp_path / "out.npz", allow_pickle=False) as found:
        np.testing.assert_array_equal(found["d"], pool_tokens(vectors("abcdefgh"), 4))
        assert (found["d"].shape, found["q"].shape) == ((2, 4), (8, 4))


def test_the_same_vectors_make_the_same_file(cli: Cli, tmp_path: Path, lines: Lines) -> None:
    source = lines(tmp_path / "items.jsonl", {"id": "d", "text": "abc"})
    for name in ("one.npz", "two.npz"):
        told = cli("embed", source, "-o", tmp_path / name, "--encoder", "colqwen2:x")
        assert told.out == f"wrote 1 array of 3 vectors of 4 dimensions to {tmp_path / name}\n"
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_nothing_usable_leaves_the_old_file(cli: Cli, tmp_path: Path, lines: Lines) -> None:
    output = tmp_path / "out.npz"
    output.write_bytes(b"old")
    source = lines(tmp_path / "items.jsonl", {"text": "unspeakable"})
    refused = cli("embed", source, "-o", output, "--encoder", "colqwen2:x")
    assert refused.code == 2
    assert "holds no item that can be encoded, nothing was written; the first reason" in refused.error
    assert output.read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {"items.jsonl", "out.npz"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("-o", "out.npy", "--encoder", "colqwen2:x"), "does not end in .npz"),
        (("-o", "out.npz", "--encoder", "mini"), "does not end in .npy"),
        (("-o", "out.npz", "--encoder", "colqwen2:x", "--truncate-dim", "2"), "use --token-pooling"),
        (("-o", "out.npy", "--encoder", "mini", "--token-pooling", "2"), "--token-pooling is for many vectors an item"),
    ],
)
def test_what_does_not_go_together(
    cli: Cli, tmp_path: Path, lines: Lines, arguments: tuple[str, ...], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = lines(tmp_path / "items.jsonl", {"text": "a"})
    refused = cli("embed", source, *arguments)
    assert refused.code == 2
    assert sentence in refused.error


def test_it_is_indexed(cli: Cli, tmp_path: Path, lines: Lines) -> None:
    source = lines(tmp_path / "items.jsonl", {"id": "a", "text": "abc"})
    assert cli("index", source, "-c", tmp_path / "c", "--encoder", "colqwen2:x").code == 0
    assert cli("info", "-c", tmp_path / "c", "--json").document["tokens"] == 3
