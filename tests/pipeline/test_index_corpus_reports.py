"""Encoders that are odd, and what a run leaves as a report."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from mmseek import Content, Document, Encoded, EncodeRequest
from mmseek.errors import InputError, ItemError
from mmseek.index.corpus import Skipped
from mmseek.pipeline.indexing import index_corpus
from mmseek.pipeline.report import IndexReport, write_report
from mmseek.protocols import Collection
from mmseek.testing import FakeEncoder


class Pulling(FakeEncoder):
    """An encoder that reads its requests in another thread, as engines do."""

    def stream(self, requests):  # type: ignore[no-untyped-def]
        pulled: list[EncodeRequest] = []
        thread = threading.Thread(target=lambda: pulled.extend(requests))
        thread.start()
        thread.join()
        yield from super().stream(pulled)


def test_encoder_may_read_requests_in_its_own_thread(collection: Collection) -> None:
    documents = [*(Document(word, Content.of(f"text {word}")) for word in "abcdef"), Document("e2", Content(()))]

    report = index_corpus(documents, Pulling(), collection, batch_size=2)

    assert (report.indexed, len(report.failed)) == (6, 1)


class Silent(FakeEncoder):
    """An encoder that breaks its promise: neither a vector nor an error."""

    def stream(self, requests):  # type: ignore[no-untyped-def]
        for _ in requests:
            yield Encoded()


def test_outcome_without_vector_is_a_failure(collection: Collection) -> None:
    report = index_corpus([Document("a", Content.of("text a"))], Silent(), collection)

    assert [str(error) for error in report.failed] == ["item 'a': the encoder gave no vector"]


def test_report_file_names_every_failure(tmp_path: Path) -> None:
    report = IndexReport(
        indexed=1,
        unchanged=0,
        failed=(ItemError("is b\xf6se", source="n.jsonl", line=7, item_id="x"), ItemError("is bad")),
        skipped=(Skipped("a.docx", "is unknown"),),
        seconds=1.0,
    )

    write_report(report, tmp_path / "report.jsonl")

    rows = [json.loads(line) for line in (tmp_path / "report.jsonl").read_text("utf-8").splitlines()]
    assert rows == [
        {"status": "failed", "source": "n.jsonl", "line": 7, "id": "x", "reason": "is b\xf6se"},
        {"status": "failed", "source": None, "line": None, "id": None, "reason": "is bad"},
        {"status": "skipped", "source": "a.docx", "line": None, "id": None, "reason": "is unknown"},
    ]
    with pytest.raises(InputError, match="the report cannot be written"):
        write_report(report, tmp_path)
