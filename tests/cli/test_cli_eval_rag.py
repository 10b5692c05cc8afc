"""`mmseek eval --rag`: questions asked of a corpus, scored, shown, kept and compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmseek.testing import FakeEncoder

Cli = Callable[..., Any]


def part(body: dict[str, Any], place: int) -> str:
    """A part of what a judge is sent."""
    return str(body["messages"][1]["content"][place]["text"])


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """Two questions, and the corpus beside them."""
    corpus = [{"id": "a", "text": "the bike is red"}, {"id": "b", "text": "the boat is blue"}]
    rows = [
        {"id": "q1", "question": "bike", "answers": ["red"], "relevant": ["a"]},
        {"id": "q2", "question": "boat", "answers": ["blue"], "relevant": ["b"]},
    ]
    for name, values in (("corpus", corpus), ("qa", rows)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in values))
    return tmp_path / "qa.jsonl"


def test_answers_are_scored_and_written(cli: Cli, questions: Path, fake: FakeEncoder, fake_chat: Any) -> None:
    fake_chat.answers = [lambda body: "red [1]" if "Question: bike" in json.dumps(body) else "green [1]"]
    folder = questions.parent
    line = ("eval", "--rag", questions, "-e", "mini", "--mode", "lexical", "--llm-url", fake_chat.url, "--model", "m")
    files = ("--output", folder / "a.json", "--markdown", folder / "a.md", "--html", folder / "a.html")

    found = cli(*line, "--json", *files, "--answers", folder / "done.jsonl").document

    assert found["metrics"] == {"em": 0.5, "f1": 0.5, "precision@5": 1.0, "recall@5": 1.0, "cited_precision": 1.0}
    assert found["retrieval"]["1"]["chance"] == {"precision": 0.5, "recall": 0.5}
    asked = len(fake_chat.bodies)
    shown = cli(*line, "--answers", folder / "done.jsonl")
    assert shown.code == 0
    assert "f1" in shown.out
    assert "first 5" in shown.out
    assert len(fake_chat.bodies) == asked, "what is answered is not asked again"
    page = (folder / "a.html").read_text()
    assert "answered: green [1]" in page
    assert "relevant, cited" in page
    assert "| all | f1 | 0.500 |" in (folder / "a.md").read_text()
    compared = cli("eval", "--compare", folder / "a.json", folder / "a.json", "--json").document
    assert compared["metrics"]["f1"]["gain"][0] == 0.0
    files = ("--compare", folder / "a.json", folder / "b.json", "--judge-url", fake_chat.url, "--judge-model", "j")
    (folder / "b.json").write_text((folder / "a.json").read_text().replace('"green [1]"', '"blue"'))
    fake_chat.answers = [lambda body: f"VERDICT: {1 if 'blue' in part(body, 2) else 2}"]
    assert cli("eval", *files, "--json").document["judge"]["b"] == 1
    assert "B is preferred on 1, A on 0, neither on 1" in cli("eval", *files).out


def test_a_collection_and_a_judge(cli: Cli, questions: Path, fake: FakeEncoder, fake_chat: Any, tmp_path: Path) -> None:
    fake_chat.answers = [lambda body: "GRADE: 5" if body["model"] == "j" else "red [1]"]
    assert cli("index", tmp_path / "corpus.jsonl", "-c", tmp_path / "c").code == 0
    line = ("eval", "--rag", questions, "-c", tmp_path / "c", "--llm-url", fake_chat.url, "--model", "m", "--json")

    sizes = ("--context-chars", 9, "--pictures", 0, "--max-tokens", 7)
    found = cli(
        *line, *sizes, "-k", 1, "--mmsearch", "--limit", 1, "--judge-url", fake_chat.url, "--judge-model", "j"
    ).document

    assert found["metrics"]["judge"] == 1.0
    assert {body["max_tokens"] for body in fake_chat.bodies if body["model"] == "m"} == {7}
    assert found["setup"]["context_chars"] == 9
    assert {"end_to_end", "rerank", "summarization"} <= set(found["metrics"])
    assert found["n_questions"] == 1
    assert "no MMSearch score" in " ".join(found["warnings"])
    below = cli(*line, "--threshold", "9").document
    assert below["metrics"]["f1"] == 0.0


def test_what_does_not_go_together(cli: Cli, questions: Path, fake_chat: Any, tmp_path: Path) -> None:
    assert "--model NAME" in cli("eval", "--rag", questions, "--llm-url", fake_chat.url).error
    assert "add --rag PATH" in cli("eval", "-d", tmp_path, "--llm-url", fake_chat.url, "--model", "m").error
    assert "--compare A B" in cli("eval", "-d", tmp_path, "--judge-url", fake_chat.url, "--judge-model", "m").error
    line = ("eval", "--rag", questions, "--llm-url", fake_chat.url, "--model", "m")
    assert "--judge-model" in cli(*line, "--judge-url", fake_chat.url).error
    (tmp_path / "corpus.jsonl").unlink()
    assert "give --collection" in cli(*line).error
    assert "missing option '--dataset'" in cli("eval").error


def test_an_endpoint_that_refuses_is_one_sentence_and_code_1(
    cli: Cli, questions: Path, fake: FakeEncoder, fake_chat: Any
) -> None:
    fake_chat.answers = [401]
    done = cli("eval", "--rag", questions, "-e", "mini", "--llm-url", fake_chat.url, "--model", "m")
    assert done.code == 1
    assert "2 questions failed and scored zero" in done.err
