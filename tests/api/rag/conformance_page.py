"""Writes docs/conformance.md: runs the frameworks' own suites and counts what they say.

python tests/api/rag/conformance_page.py
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "conformance.md"
# Class of tests -> whose suite it is, its name, and what of ours it is given.
SUITES = {
    "TestMmseekRetriever": ("langchain-tests", "RetrieversIntegrationTests", "MmseekRetriever"),
    "TestMmseekVectorStore": ("langchain-tests", "VectorStoreIntegrationTests", "MmseekVectorStore"),
    "TestMmseekEmbeddings": ("langchain-tests", "EmbeddingsIntegrationTests", "MmseekEmbeddings"),
    "TestMmseekEmbeddingsAlone": ("langchain-tests", "EmbeddingsUnitTests", "MmseekEmbeddings"),
    "TestMmseekDocumentStore": ("haystack-ai", "DocumentStoreBaseExtendedTests", "MmseekDocumentStore"),
    "TestMmseekDocumentStoreAsynchronously": ("haystack-ai", "the asynchronous suites", "MmseekDocumentStore"),
    "TestRetrieverConformance": ("llama-index-core", "its base classes, by tests of ours", "MmseekRetriever"),
    "TestEmbeddingConformance": ("llama-index-core", "its base classes, by tests of ours", "MmseekEmbedding"),
    "TestPostprocessorConformance": ("llama-index-core", "its base classes, by tests of ours", "MmseekReranker"),
}
FILES = [f"tests/api/rag/test_{name}_conformance.py" for name in ("langchain", "llama_index", "haystack")]
PLACES = {"local": "a collection", "remote": "a service"}
# Over what tests are that do not say: a collection, unless there is none.
ALONE = {"MmseekEmbeddings": "an encoder", "MmseekEmbedding": "an encoder"}
HEAD = """# Conformance

What the RAG frameworks' own suites say of [the adapters](rag.md). `python tests/api/rag/conformance_page.py` makes this
page by running them; they run with all other tests whenever something changes, and a failure there stops the change.
LlamaIndex publishes no suite: the tests are of what its base classes promise, through their public methods alone.
"""


@dataclass
class Outcome:
    """What one class of tests said over one kind of source."""

    passed: int = 0
    skipped: Counter[str] = field(default_factory=Counter)


def run() -> dict[tuple[str, str], Outcome]:
    """Run the suites; what they said, by class and source.

    Raises:
        SystemExit: a test failed.
    """
    with tempfile.TemporaryDirectory() as name:
        report = Path(name, "report.xml")
        command = [sys.executable, "-m", "pytest", *FILES, "-q", f"--junitxml={report}", f"--basetemp={name}/tests"]
        if subprocess.run(command, cwd=ROOT, check=False).returncode:
            raise SystemExit("the suites fail: nothing is written")
        return outcomes(ET.parse(report).getroot())


def outcomes(report: ET.Element) -> dict[tuple[str, str], Outcome]:
    """What a report in JUnit's format says, by class and source."""
    found: dict[tuple[str, str], Outcome] = {}
    for case in report.iter("testcase"):
        name = case.get("classname", "").rpartition(".")[2]
        said = case.get("name", "").partition("[")[2]
        own = ALONE.get(SUITES[name][2], PLACES["local"])
        over = next((words for key, words in PLACES.items() if key in said), own)
        outcome = found.setdefault((name, over), Outcome())
        skip = case.find("skipped")
        if skip is None:
            outcome.passed += 1
        else:
            outcome.skipped[skip.get("message", "")] += 1
    return found


def lines(found: dict[tuple[str, str], Outcome]) -> Iterator[str]:
    yield HEAD
    names = dict.fromkeys(package for package, _, _ in SUITES.values())
    yield f"Versions: {', '.join(f'{name} {version(name)}' for name in names)}.\n"
    yield "| suite | of | adapter | over | passed | skipped |"
    yield "|---|---|---|---|---|---|"
    reasons: Counter[str] = Counter()
    for (name, over), outcome in found.items():
        package, suite, adapter = SUITES[name]
        skipped = outcome.skipped.total()
        yield f"| {suite} | {package} | `{adapter}` | {over} | {outcome.passed} | {skipped} |"
        reasons += outcome.skipped
    passed = sum(outcome.passed for outcome in found.values())
    yield f"| **all** | | | | **{passed}** | **{reasons.total()}** |\n"
    if reasons:
        yield "Why tests were skipped, in the suites' own words:\n"
        yield from (f"- {count} times: {reason}" for reason, count in reasons.most_common())


def main() -> None:
    PAGE.write_text("\n".join(lines(run())) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
