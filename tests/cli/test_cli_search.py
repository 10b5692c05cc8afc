"""`mmseek search`: hits for scripts, for people, and for a browser."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmseek.testing import FakeEncoder

_NO_HITS = "no hits: the collection is empty, or nothing in it has these words or meets the conditions\n"
Cli = Callable[..., Any]
Lines = Callable[..., Path]


def test_json_of_hits(cli: Cli, collection: Path) -> None:
    found = cli("search", "a red bike", "-c", collection, "-k", "2", "--json").document
    assert set(found) == {"hits", "took_ms"}
    assert found["took_ms"] > 0
    first, second = found["hits"]
    assert (first["rank"], second["rank"]) == (1, 2)
    assert first == {
        "rank": 1,
        "id": "t",
        "score": pytest.approx(1.0, abs=1e-6),
        "scores": {"dense": first["score"]},
        "document": {"id": "t", "text": "a red bike", "metadata": {"lang": "en"}},
    }
    assert second["score"] < first["score"]


def test_a_picture_finds_itself(cli: Cli, collection: Path, corpus: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.png"
    shutil.copy(corpus.parent / "red.png", copy)
    (hit,) = cli("search", "--image", copy, "-c", collection, "-k", "1", "--json").document["hits"]
    assert hit["id"] == "i"
    assert hit["document"]["image"] == str(corpus.parent / "red.png")


def test_a_picture_and_words_find_both_together(cli: Cli, collection: Path, corpus: Path) -> None:
    line = ["search", "the sea", "--image", corpus.parent / "blue.png", "-c", collection, "-k", "1", "--json"]
    (hit,) = cli(*line).document["hits"]
    assert (hit["id"], hit["score"]) == ("b", pytest.approx(1.0, abs=1e-6))


def test_excluded_ids_are_not_ranked(cli: Cli, collection: Path) -> None:
    line = ["search", "a red bike", "-c", collection, "--json"]
    assert {hit["id"] for hit in cli(*line, "--exclude", "t").document["hits"]} == {"i", "b"}
    nothing = cli(*line, "--exclude", "t", "--exclude", "i", "--exclude", "b")
    assert (nothing.document["hits"], nothing.code) == ([], 0)


def test_the_table_shows_words_pictures_and_captions(cli: Cli, collection: Path, corpus: Path) -> None:
    shown = cli("search", "a red bike", "-c", collection).out
    lines = shown.splitlines()
    assert lines[0].split() == ["rank", "score", "id", "kind", "content"]
    assert lines[1].split()[:4] == ["1", "1.0000", "t", "text"]
    assert "a red bike" in lines[1]
    assert str(corpus.parent / "blue.png") in shown
    assert "all of it is red" in shown
    assert lines[-1].startswith("3 hits in ")


def test_documents_cannot_command_the_terminal(cli: Cli, fake: FakeEncoder, tmp_path: Path, lines: Lines) -> None:
    source = lines(tmp_path / "items.jsonl", {"id": "x", "text": "\x1b[31mred\x07 [bold]not markup[/bold] [/]\u202e"})
    assert cli("index", source, "-c", tmp_path / "c").code == 0
    shown = cli("search", "anything", "-c", tmp_path / "c").out
    assert "[bold]not markup[/bold] [/]" in shown
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)


def test_an_instruction_that_changes_nothing_is_said(cli: Cli, collection: Path) -> None:
    told = cli("search", "a red bike", "-c", collection, "--instruction", "find bikes", "--json")
    assert told.document["hits"][0]["id"] == "t"
    assert "does not follow instructions" in told.err
    assert "instructions" not in cli("search", "a red bike", "-c", collection, "--json").err


def test_the_page_holds_everything(cli: Cli, collection: Path, tmp_path: Path) -> None:
    page = tmp_path / "found.html"
    done = cli("search", "a red bike", "-c", collection, "--html", page, "--json")
    assert done.code == 0
    assert done.document["hits"][0]["id"] == "t"
    html = page.read_text()
    assert html.count("data:image/") >= 2
    assert "a red bike" in html
    assert f"wrote {page}" in done.err


def test_a_query_picture_that_is_none(cli: Cli, collection: Path, tmp_path: Path) -> None:
    words = tmp_path / "words.png"
    words.write_text("these are words")
    refused = cli("search", "--image", words, "-c", collection, "--json")
    assert refused.code == 2
    assert "words.png" in refused.error


def test_nothing_to_find(cli: Cli, collection: Path) -> None:
    assert cli("delete", "t", "i", "b", "-c", collection, "--yes").code == 0
    shown = cli("search", "x", "-c", collection)
    assert (shown.code, shown.out) == (0, _NO_HITS)


def test_modes_and_filters(cli: Cli, collection: Path) -> None:
    line = ["search", "bike", "-c", collection, "--json"]
    (hit,) = cli(*line, "--mode", "lexical").document["hits"]
    assert (hit["id"], set(hit["scores"])) == ("t", {"lexical"})
    first = cli(*line, "--mode", "hybrid").document["hits"][0]
    assert (first["id"], set(first["scores"])) == ("t", {"dense", "lexical"})
    (hit,) = cli(*line, "--filter", 'lang == "en"').document["hits"]
    assert hit["id"] == "t"
    assert cli(*line, "--filter", "lang != null and id == 'i'").document["hits"] == []


def test_a_filter_that_cannot_be_read(cli: Cli, collection: Path) -> None:
    failed = cli("search", "a red bike", "-c", collection, "--filter", "year = 3")
    assert failed.code == 2
    assert "filter, column 6" in failed.err
