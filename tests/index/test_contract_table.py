"""docs/contract.md says what the contract's suites check of every kind of collection; it is made from the suites."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "contract.md"
SUITES = {
    "Documents and vectors": "test_collection_contract.py",
    "A vector for each token": "test_multi_vector.py",
    "Filters": "test_filter_contract.py",
    "Words": "test_words_contract.py",
}
PLACES = ("folder", "edge", "server", "memory")
EVERYWHERE = {"collection", "location"}
HEAD = """# What is checked of every kind of collection

Made from the tests by `MMSEEK_WRITE_DOCS=1 pytest tests/index/test_contract_table.py`; a test compares it. Each line
is a test, which runs once for each place: against an exact oracle, or against what another place gives. The server is
a small fake that speaks the protocol; the same suite runs on a real one where `MMSEEK_TEST_QDRANT_URL` is set. Crashes,
damage and faults are tested place by place, in suites of their own.
"""


def checks(path: Path) -> list[tuple[str, bool]]:
    """The tests of a suite in words, and whether they run everywhere or in a folder alone."""
    found = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            names = {argument.arg for argument in node.args.args}
            found.append((node.name.removeprefix("test_").replace("_", " "), bool(names & EVERYWHERE)))
    return found


def page() -> str:
    lines = [HEAD]
    for title, name in SUITES.items():
        tested = checks(Path(__file__).with_name(name))
        lines += [f"## {title}\n", f"| check | {' | '.join(PLACES)} |", "|---" * (1 + len(PLACES)) + "|"]
        for words, everywhere in tested:
            marks = ["yes"] * len(PLACES) if everywhere else ["yes", *[""] * (len(PLACES) - 1)]
            lines.append(f"| {words} | {' | '.join(marks)} |")
        lines.append("")
    return "\n".join(lines)


def test_the_page_is_what_the_suites_say() -> None:
    if os.environ.get("MMSEEK_WRITE_DOCS"):
        PAGE.write_text(page(), encoding="utf-8")
    assert PAGE.read_text(encoding="utf-8") == page(), "run it with MMSEEK_WRITE_DOCS=1"


@pytest.mark.parametrize("name", SUITES.values())
def test_every_suite_runs_everywhere(name: str) -> None:
    assert any(everywhere for _, everywhere in checks(Path(__file__).with_name(name)))
