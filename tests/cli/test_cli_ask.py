"""`mmseek ask`: the answer as it comes, its sources below it, and one JSON document."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmseek.testing import FakeEncoder

Cli = Callable[..., Any]


@pytest.fixture
def pages(tmp_path: Path, cli: Cli, fake: FakeEncoder, make_pdf: Callable[..., bytes]) -> Path:
    """A PDF of two pages and a text, indexed."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "tides.pdf").write_bytes(make_pdf(["contents", "low water at six"]))
    (tmp_path / "docs" / "bike.txt").write_text("a red bike")
    assert cli("index", tmp_path / "docs", "-c", tmp_path / "c").code == 0
    return tmp_path / "c"


def test_a_question_is_answered_with_document_and_page(cli: Cli, pages: Path, fake_chat: Any) -> None:
    fake_chat.answers = ["At six [1].\x1b[31m"]
    line = ("ask", "when is low water?", "-c", pages, "--mode", "lexical", "--llm-url", fake_chat.url, "--model", "m")

    shown = cli(*line)
    assert shown.code == 0
    assert shown.out.startswith("At six [1]. [31m\n")
    assert "[1] tides.pdf, page 2" in shown.out
    assert any(part["type"] == "image_url" for part in fake_chat.parts), "the page's picture is sent"

    found = cli(*line, "--json").document
    assert (found["answer"], found["found"], found["citations"]) == ("At six [1].\x1b[31m", True, [1])
    (source,) = found["sources"]
    assert (source["document"], source["page"], source["id"]) == ("tides.pdf", 2, "tides.pdf#2")
    assert source["text"] == "low water at six"


def test_what_is_not_there_is_not_in_the_corpus(cli: Cli, pages: Path, fake_chat: Any) -> None:
    line = ("ask", "zeppelins", "-c", pages, "--mode", "lexical", "--llm-url", fake_chat.url, "--model", "m")

    assert cli(*line).out.strip() == "not in the corpus"
    assert cli(*line, "--json").document["found"] is False
    below = cli("ask", "zeppelins", "-c", pages, "--threshold", "2", "--llm-url", fake_chat.url, "--model", "m")
    assert "none reaches the threshold" in below.err
    assert fake_chat.bodies == []


def test_a_picture_a_key_and_a_query_written_anew(cli: Cli, pages: Path, fake_chat: Any, corpus: Path) -> None:
    key = pages.parent / "key"
    key.write_text("sk-secret")
    fake_chat.answers = ["red bike", "It is red [9]."]

    asked = cli(
        *("ask", "what is this?", "--image", corpus.parent / "red.png", "-c", pages, "--mode", "lexical"),
        *("--llm-url", fake_chat.url, "--model", "m", "--api-key-file", key, "--requery", "--max-tokens", 7),
    )

    assert asked.code == 0
    assert "cites [9]" in asked.err
    assert fake_chat.keys == ["Bearer sk-secret"] * 2
    assert fake_chat.bodies[1]["max_tokens"] == 7
    assert [part["type"] for part in fake_chat.bodies[0]["messages"][1]["content"]] == ["image_url", "text"]
    assert "a red bike" in fake_chat.text
    assert "sk-secret" not in asked.out + asked.err


def test_an_endpoint_that_refuses_is_one_sentence(cli: Cli, pages: Path, fake_chat: Any) -> None:
    fake_chat.answers = [404]

    refused = cli("ask", "bike", "-c", pages, "--llm-url", fake_chat.url, "--model", "m", "--json")

    assert refused.code == 2
    assert refused.document["error"]["code"] == "endpoint_failed"
    assert "status 404" in refused.error


def test_a_removed_file_leaves_the_collection(cli: Cli, pages: Path) -> None:
    (pages.parent / "docs" / "tides.pdf").unlink()

    again = cli("index", pages.parent / "docs", "-c", pages, "--prune", "--json")

    assert (again.document["removed"], again.document["documents"]) == (2, 1)
    assert "took out 2 documents" in again.err


def test_a_region_is_shown(cli: Cli, tmp_path: Path, fake: FakeEncoder, fake_chat: Any) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        '{"id": "r.pdf#2", "text": "low water", "parent_id": "r.pdf", '
        '"metadata": {"page": 2, "region": [72, 90.5, 300, 120]}}\n'
    )
    assert cli("index", rows, "-c", tmp_path / "r").code == 0
    line = ("ask", "water", "-c", tmp_path / "r", "--llm-url", fake_chat.url, "--model", "m")

    assert "[1] r.pdf, page 2, at 72,90.5 to 300,120 pt" in cli(*line).out
    assert cli(*line, "--json").document["sources"][0]["region"] == [72, 90.5, 300, 120]
