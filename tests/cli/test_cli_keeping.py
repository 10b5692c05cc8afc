"""`mmseek info`, `verify`, `delete` and `compact`."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmseek.testing import FakeEncoder

Cli = Callable[..., Any]


def test_info(cli: Cli, fake: FakeEncoder, collection: Path) -> None:
    found = cli("info", "-c", collection, "--json").document
    assert found.pop("bytes") > 1000
    assert found.pop("created_at") <= found.pop("updated_at")
    assert found == {
        "location": str(collection),
        "documents": 3,
        "encoder": "mini",
        "dim": 16,
        "fingerprint": fake.identity.fingerprint,
        "format_version": 1,
        "modalities": {"text": 1, "image": 1, "image,text": 1},
        "index": {
            "kind": "exact",
            "wanted": "exact",
            "settings": "",
            "recall": 1.0,
            "measured_on": "",
            "bytes_per_vector": 64.0,
            "rows": 3,
            "waiting": 0,
        },
    }
    shown = cli("info", "-c", collection).out
    assert "3 (1 image, 1 image,text, 1 text)" in shown
    assert "mini (16-d" in shown


def test_verify_finds_a_changed_byte(cli: Cli, collection: Path) -> None:
    sound = cli("verify", "-c", collection, "--json")
    assert (sound.code, sound.document) == (0, {"ok": True, "documents": 3, "vectors": 3, "problems": []})
    assert cli("verify", "-c", collection).out == f"{collection} is sound: 3 documents, 3 vectors\n"
    (segment,) = collection.glob("vectors/*")
    data = bytearray(segment.read_bytes())
    data[-8] ^= 1
    segment.write_bytes(data)
    broken = cli("verify", "-c", collection, "--json")
    assert (broken.code, broken.document["ok"]) == (1, False)
    assert broken.document["problems"]
    shown = cli("verify", "-c", collection)
    assert shown.code == 1
    assert broken.document["problems"][0] in shown.out


def test_delete(cli: Cli, collection: Path) -> None:
    done = cli("delete", "t", "b", "t", "-c", collection, "--yes", "--json")
    assert (done.code, done.document) == (0, {"deleted": 2, "unknown": [], "documents": 1})
    assert {hit["id"] for hit in cli("search", "x", "-c", collection, "--json").document["hits"]} == {"i"}
    assert cli("verify", "-c", collection).code == 0


def test_delete_names_ids_that_are_not_there(cli: Cli, collection: Path) -> None:
    done = cli("delete", "t", "nope", "-c", collection, "--yes", "--json")
    assert (done.code, done.document) == (1, {"deleted": 1, "unknown": ["nope"], "documents": 2})
    assert done.err == "not in the collection: nope\n"


@pytest.mark.parametrize(("answer", "left"), [("y\n", 2), ("YES\n", 2), ("n\n", 3), ("\n", 3), ("", 3)])
def test_delete_asks(cli: Cli, collection: Path, monkeypatch: pytest.MonkeyPatch, answer: str, left: int) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    done = cli("delete", "t", "-c", collection)
    assert "Delete 1 document from" in done.err
    assert done.code == (0 if left == 2 else 2)
    assert cli("info", "-c", collection, "--json").document["documents"] == left


def test_delete_without_a_terminal_wants_a_yes(cli: Cli, collection: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    refused = cli("delete", "t", "-c", collection)
    assert refused.code == 2
    assert "--yes" in refused.error
    assert cli("info", "-c", collection, "--json").document["documents"] == 3


def test_compact_gives_space_back(cli: Cli, collection: Path) -> None:
    (segment,) = collection.glob("vectors/*")
    before = segment.stat().st_size
    cli("delete", "t", "b", "-c", collection, "--yes")
    assert segment.stat().st_size == before
    done = cli("compact", "-c", collection, "--json")
    assert (done.code, done.document["dropped"]) == (0, 2)
    (segment,) = collection.glob("vectors/*")
    assert segment.stat().st_size < before
    assert cli("verify", "-c", collection, "--json").document == {
        "ok": True,
        "documents": 1,
        "vectors": 1,
        "problems": [],
    }
    assert cli("compact", "-c", collection).out.startswith("dropped 0 vectors")


def test_verify_tells_of_a_collection_too_damaged_to_open(cli: Cli, collection: Path) -> None:
    (collection / "documents.sqlite").write_bytes(b"not a database at all, but long enough to be looked at" * 100)
    broken = cli("verify", "-c", collection, "--json")
    assert (broken.code, broken.document["ok"]) == (1, False)
    assert broken.document["problems"]
