"""`mmseek tune`, `mmseek index --ann` and what `mmseek info` says of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmseek.cli.tune import Kind, memory_bytes
from mmseek.index.ann.plan import KINDS

Cli = Callable[..., Any]


def test_tune_builds_and_info_tells(cli: Cli, collection: Path) -> None:
    done = cli("tune", "-c", collection, "--ann", "hnsw", "--json")
    assert done.code == 0
    index = done.document["index"]
    assert (index["kind"], index["rows"], index["measured_on"], index["recall"]) == ("hnsw", 3, "queries", 1.0)
    assert "building hnsw over 3 vectors" in done.err
    assert cli("info", "-c", collection, "--json").document["index"] == index
    assert "hnsw, HNSW24,SQ8" in cli("info", "-c", collection).out
    assert cli("verify", "-c", collection).code == 0
    assert cli("search", "red", "-c", collection, "--json").code == 0
    shown = cli("tune", "-c", collection, "--ann", "exact")
    assert (shown.code, shown.out) == (0, "exact, 64 bytes a vector\n")


def test_the_option_names_all_kinds() -> None:
    assert tuple(kind.value for kind in Kind) == KINDS


def test_auto_says_what_it_chose(cli: Cli, collection: Path) -> None:
    done = cli("tune", "-c", collection)
    assert "exact (chosen by auto)" in done.out


def test_index_builds_what_is_asked_and_then_keeps_it(cli: Cli, collection: Path, tmp_path: Path) -> None:
    items = tmp_path / "more.jsonl"
    items.write_text(json.dumps({"id": "x", "text": "a green boat"}) + "\n")
    done = cli("index", items, "-c", collection, "--ann", "int8", "--json")
    assert done.code == 0
    assert "vector index: int8" in done.err
    items.write_text(json.dumps({"id": "y", "text": "a blue boat"}) + "\n")
    assert cli("index", items, "-c", collection, "--json").code == 0
    index = cli("info", "-c", collection, "--json").document["index"]
    assert (index["kind"], index["rows"], index["waiting"]) == ("int8", 4, 1)
    again = cli("index", items, "-c", collection, "--ann", "int8", "--json")
    assert "adding 1 vectors to int8" in again.err
    index = cli("info", "-c", collection, "--json").document["index"]
    assert (index["rows"], index["waiting"]) == (5, 0)


def test_queries_come_from_a_file(cli: Cli, collection: Path, tmp_path: Path) -> None:
    texts = tmp_path / "queries.txt"
    texts.write_text("a red bike\n\na tree\n")
    items = tmp_path / "queries.jsonl"
    items.write_text('{"id": "1", "text": "a red bike"}\n{"id": "2", "text": "a tree"}\n')
    for path in (texts, items):
        done = cli("tune", "-c", collection, "--ann", "rabitq", "--tune-queries", path, "--json")
        assert done.code == 0
        assert "encoding 2 sample queries" in done.err
        assert (collection / "ann" / "queries.f32").stat().st_size == 2 * 16 * 4


def test_what_cannot_be_done_is_one_sentence(cli: Cli, collection: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    bad = tmp_path / "bad.jsonl"
    bad.write_text("{}\n")
    for arguments in (
        ["--recall", "1.5"],
        ["--memory", "much"],
        ["--tune-queries", tmp_path / "none.txt"],
        ["--tune-queries", empty],
        ["--tune-queries", bad],
    ):
        done = cli("tune", "-c", collection, "--ann", "hnsw", *arguments)
        assert (done.code, done.out) == (2, "")
        assert done.error
    assert not (collection / "ann" / "current.json").exists()


@pytest.mark.parametrize(
    ("text", "size"), [("100", 100), ("2GB", 2 * 10**9), ("1.5 m", 1_500_000), ("3KiB", 3000), ("1tb", 10**12)]
)
def test_sizes(text: str, size: int) -> None:
    assert memory_bytes(text) == size
