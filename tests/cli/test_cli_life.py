"""The verbs of a collection's life: export, import, snapshot, restore, alias, reembed, duplicates, verify --repair."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mmseek.cli.queries import split_weight
from mmseek.errors import InputError
from mmseek.testing import FakeEncoder

Cli = Callable[..., Any]


def test_export_and_import(cli: Cli, collection: Path, tmp_path: Path) -> None:
    done = cli("export", "-c", collection, "-o", tmp_path / "out", "--json")
    assert (done.code, done.document["documents"]) == (0, 3)
    done = cli("import", tmp_path / "out", "-c", tmp_path / "two", "--json")
    assert (done.code, done.document) == (0, {"imported": 3, "unchanged": 0, "documents": 3})
    assert cli("import", tmp_path / "out", "-c", tmp_path / "two", "--json").document["unchanged"] == 3
    assert cli("verify", "-c", tmp_path / "two").code == 0
    found = [
        cli("search", "a red bike", "-c", each, "--json").document["hits"] for each in (collection, tmp_path / "two")
    ]
    assert found[0] == found[1]
    assert "exists already" in cli("export", "-c", collection, "-o", tmp_path / "out").error
    assert "no export" in cli("import", tmp_path / "absent", "-c", tmp_path / "two").error


def test_snapshot_and_restore(cli: Cli, collection: Path, tmp_path: Path) -> None:
    assert cli("snapshot", "-c", collection, "-o", tmp_path / "copy.tar", "--json").document["documents"] == 3
    assert cli("restore", tmp_path / "copy.tar", "-c", tmp_path / "again", "--json").document["documents"] == 3
    assert cli("snapshot", "-c", tmp_path / "again", "-o", tmp_path / "folder").code == 0
    shown = cli("verify", "-c", tmp_path / "folder")
    assert (shown.code, "sound" in shown.out) == (0, True)
    assert "no snapshot" in cli("restore", Path(__file__), "-c", tmp_path / "third").error


def test_verify_repair(cli: Cli, collection: Path) -> None:
    assert "nothing was done" in cli("verify", "--repair", "-c", collection).out
    (collection / "head.json").unlink()
    mended = cli("verify", "--repair", "-c", collection, "--json")
    assert (mended.code, mended.document["ok"], mended.document["dropped"]) == (0, True, [])
    assert mended.document["found"]
    (segment,) = (collection / "vectors").iterdir()
    segment.write_bytes(b"\x01" + segment.read_bytes()[1:])
    shown = cli("verify", "--repair", "-c", collection)
    assert shown.code == 1
    assert "index them again" in shown.out
    (kept,) = collection.parent.glob("collection.damaged-*")
    assert cli("index", kept / "dropped.jsonl", "-c", collection).code == 0
    assert cli("verify", "-c", collection, "--json").document["documents"] == 3


def test_alias_and_reembed(cli: Cli, collection: Path, tmp_path: Path) -> None:
    name = tmp_path / "photos"
    assert "no alias" in cli("alias", name).error
    assert cli("alias", name, "--to", collection, "--json").document["before"] is None
    assert cli("info", "-c", name, "--json").document["documents"] == 3
    done = cli("reembed", "-c", name, "-e", "other", "-o", tmp_path / "next", "--json")
    assert (done.code, done.document["switched"], done.document["indexed"]) == (0, True, 3)
    assert cli("alias", name, "--json").document["target"] == str(tmp_path / "next")
    assert cli("info", "-c", name, "--json").document["encoder"] == "other"
    assert cli("search", "a red bike", "-c", name, "--json").document["hits"][0]["id"] == "t"
    back = cli("alias", name, "--to", collection)
    assert "is kept" in back.out
    assert "already" in cli("reembed", "-c", name, "-e", "mini").error


def test_reembed_with_a_failure(cli: Cli, collection: Path, fake: FakeEncoder, tmp_path: Path, corpus: Path) -> None:
    (tmp_path / "corpus" / "red.png").unlink()
    done = cli("reembed", "-c", collection, "-e", "other", "-o", tmp_path / "next", "--json")
    assert (done.code, done.document["switched"]) == (1, False)
    assert [each["id"] for each in done.document["failed"]] == ["i"]


def test_duplicates(cli: Cli, collection: Path, lines: Callable[..., Path], tmp_path: Path) -> None:
    assert cli("duplicates", "-c", collection, "--json").document["groups"] == []
    more = lines(tmp_path / "more.jsonl", {"id": "t2", "text": "a red bike", "metadata": {"lang": "de"}})
    assert cli("index", more, "-c", collection).code == 0
    (group,) = cli("duplicates", "-c", collection, "--json").document["groups"]
    assert (group["kind"], group["ids"]) == ("exact", ["t", "t2"])
    assert "t, t2" in cli("duplicates", "-c", collection).out
    assert "threshold" in cli("duplicates", "-c", collection, "--threshold", "2").error


def test_search_with_weights(cli: Cli, collection: Path, corpus: Path) -> None:
    def ids(*options: object) -> list[str]:
        done = cli("search", "-c", collection, "--json", *options)
        assert done.code == 0, done.err
        return [hit["id"] for hit in done.document["hits"]]

    assert ids("a red bike")[0] == "t"
    assert ids("--also", "a red bike:-1")[-1] == "t"
    assert ids("--also-image", f"{corpus.parent / 'red.png'}:2")[0] == "i"
    assert set(ids("--like", "t")) == {"i", "b"}
    assert set(ids("the sea", "--unlike", "t")) == {"i", "b"}
    assert ids("the sea", "--candidate", "b") == ["b"]
    assert set(ids("the sea", "--group")) == {"t", "i", "b"}
    assert "nothing before its weight" in cli("search", "x", "--also", ":-1", "-c", collection).error
    assert "not a file" in cli("search", "--also-image", "gone.png:1", "-c", collection).error
    assert "no document 'nobody'" in cli("search", "--like", "nobody", "-c", collection).error
    assert "nothing to search for" in cli("search", "-c", collection).error


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("leather:-0.3", ("leather", -0.3)),
        ("leather", ("leather", 1.0)),
        ("ratio 3:1", ("ratio 3", 1.0)),
        ("C:\\pictures\\a.png", ("C:\\pictures\\a.png", 1.0)),
        ("a: b:2e-1", ("a: b", 0.2)),
    ],
)
def test_the_weight_at_the_end(value: str, expected: tuple[str, float]) -> None:
    assert split_weight(value, "--also") == expected


def test_a_weight_without_words() -> None:
    with pytest.raises(InputError, match="nothing before"):
        split_weight(" :3", "--also")
