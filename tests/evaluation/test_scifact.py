"""The default encoder on real text: a fixed part of SciFact, small enough for every run of the tests.

The part: every third query of the test split, the documents relevant to them, and every seventeenth other document of
the corpus. A smaller pool is easier, so the figure is higher than on the whole of SciFact and only comparable with
itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mmseek.embed import load_encoder
from mmseek.evaluation import evaluate

SCIFACT = Path(__file__).parents[3] / "shared" / "data" / "scifact"
WriteDataset = Callable[..., Path]


@pytest.fixture
def part_of_scifact(write_dataset: WriteDataset) -> Path:
    if not SCIFACT.is_dir():
        pytest.skip(f"{SCIFACT} is not on this machine")
    rows = [line.split("\t") for line in (SCIFACT / "qrels" / "test.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    asked = set(list(dict.fromkeys(row[0] for row in rows))[::3])
    qrels = [(query, document, int(score)) for query, document, score in rows if query in asked]
    wanted = {document for _, document, _ in qrels}
    corpus = (SCIFACT / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    kept = [line for place, line in enumerate(corpus) if place % 17 == 0 or json.loads(line)["id"] in wanted]
    return write_dataset(kept, (SCIFACT / "queries.jsonl").read_text(encoding="utf-8").splitlines(), qrels)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # the machine may be busy with other work
def test_mini_on_a_part_of_scifact(part_of_scifact: Path) -> None:
    report = evaluate(part_of_scifact, load_encoder("mini"))
    assert (report.n_queries, report.failed_queries, report.failed_corpus) == (100, [], [])
    assert report.metrics["ndcg@10"] >= 0.83  # measured: 0.846; a random order of this pool: 0.011
