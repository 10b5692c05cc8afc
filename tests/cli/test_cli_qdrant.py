"""Every verb on a collection in Qdrant's engine, and copies."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmseek.testing import FakeEncoder

Cli = Callable[..., Any]


@pytest.fixture
def place(tmp_path: Path) -> str:
    return f"qdrant-edge:{tmp_path / 'edge'}"


def test_every_verb(cli: Cli, fake: FakeEncoder, corpus: Path, lines: Callable[..., Path], place: str) -> None:
    done = cli("index", corpus, "-c", place, "--json")
    assert (done.code, done.document["indexed"], done.document["collection"]) == (0, 3, place)
    assert cli("index", corpus, "-c", place, "--json").document["unchanged"] == 3
    assert cli("info", "-c", place, "--json").document["documents"] == 3
    found = cli("search", "a red bike", "-c", place, "--mode", "hybrid", "--json").document["hits"]
    assert len(found) == 3
    assert cli("search", "x", "-c", place, "--filter", f'id == "{found[0]["id"]}"', "--json").document["hits"]
    assert cli("delete", found[0]["id"], "-c", place, "--yes", "--json").document == {
        "deleted": 1,
        "unknown": [],
        "documents": 2,
    }
    assert cli("compact", "-c", place, "--json").document["dropped"] == 0
    assert cli("verify", "-c", place, "--json").document == {"ok": True, "documents": 2, "vectors": 2, "problems": []}


def test_failures_are_listed_beside_it(
    cli: Cli, fake: FakeEncoder, tmp_path: Path, lines: Callable[..., Path], place: str
) -> None:
    items = lines(tmp_path / "items.jsonl", {"id": "a", "text": "fine"}, {"id": "b"})
    done = cli("index", items, "-c", place, "--json")
    assert (done.code, done.document["report"]) == (1, str(tmp_path / "edge.failures.jsonl"))
    refused = cli("index", items, "-c", place, "--report", tmp_path / "edge" / "report.jsonl")
    assert "inside the collection" in refused.error


def test_a_collection_is_copied(cli: Cli, collection: Path, place: str, tmp_path: Path) -> None:
    done = cli("copy", "--from", collection, "--to", place, "--json")
    assert done.code == 0
    assert done.document == {
        "from": str(collection),
        "to": place,
        "copied": 3,
        "present": 0,
        "documents": 3,
        "verified": True,
    }
    again = cli("copy", "--from", collection, "--to", place)
    assert "copied 0 documents (3 were there already)" in again.out
    assert cli("copy", "--from", place, "--to", tmp_path / "back", "--json").document["copied"] == 3
    one, other = (
        cli("search", "bike", "-c", each, "--json").document["hits"] for each in (collection, tmp_path / "back")
    )
    assert [(hit["id"], hit["score"]) for hit in one] == [(hit["id"], hit["score"]) for hit in other]
    assert cli("delete", one[0]["id"], "-c", place, "--yes").code == 0
    assert "holds other documents" in cli("copy", "--from", collection, "--to", place).error
