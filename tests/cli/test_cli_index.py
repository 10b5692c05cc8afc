"""`mmseek index`: what is stored, what is reported, what stays as it was."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mmseek._types import Encoded, EncodeRequest
from mmseek.errors import StorageError
from mmseek.testing import FakeEncoder

Cli = Callable[..., Any]
Lines = Callable[..., Path]


def read_report(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_index_says_what_it_did(cli: Cli, fake: FakeEncoder, corpus: Path, tmp_path: Path) -> None:
    done = cli("index", corpus, "-c", tmp_path / "c", "--json")
    assert done.code == 0
    found = done.document
    assert found.pop("seconds") >= 0
    assert found.pop("items_per_second") > 0
    assert found == {
        "collection": str(tmp_path / "c"),
        "encoder": "mini",
        "documents": 3,
        "indexed": 3,
        "unchanged": 0,
        "failed": 0,
        "skipped": 0,
        "removed": 0,
        "failures": [],
        "report": None,
    }
    assert cli("verify", "-c", tmp_path / "c").code == 0


def test_index_again_encodes_only_what_changed(
    cli: Cli, fake: FakeEncoder, corpus: Path, collection: Path, lines: Lines
) -> None:
    calls = fake.calls
    again = cli("index", corpus, "-c", collection, "--resume", "--json").document
    assert (again["indexed"], again["unchanged"]) == (0, 3)
    assert fake.calls == calls
    lines(corpus, {"id": "t", "text": "a green bike"}, {"id": "i", "image": "red.png"}, {"id": "n", "text": "new"})
    changed = cli("index", corpus, "-c", collection, "--json").document
    # The picture's metadata is gone, so that document changed too.
    assert (changed["indexed"], changed["unchanged"], changed["documents"]) == (3, 0, 4)


def test_index_a_folder_and_a_file_given_together(cli: Cli, fake: FakeEncoder, corpus: Path, tmp_path: Path) -> None:
    notes = tmp_path / "note.md"
    notes.write_text("# Bikes\n\n![red](corpus/red.png)\n")
    (corpus.parent / "table.csv").write_text("a,b\n")
    done = cli("index", corpus.parent, notes, "-c", tmp_path / "c", "--json")
    assert (done.document["documents"], done.document["skipped"], done.code) == (4, 1, 0)
    assert "table.csv" in done.err


def test_the_summary_for_people(cli: Cli, fake: FakeEncoder, corpus: Path, tmp_path: Path) -> None:
    done = cli("index", corpus, "-c", tmp_path / "c")
    head, numbers, last = done.out.splitlines()
    assert head.split() == ["indexed", "unchanged", "failed", "skipped", "seconds", "items/s"]
    assert numbers.split()[:4] == ["3", "0", "0", "0"]
    assert last == f"{tmp_path / 'c'} holds 3 documents"


def png_bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims this size."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


BAD: list[tuple[dict[str, Any] | str, str]] = [
    ('{"id": "open"', "is not JSON"),
    ('{"id": "nan", "text": "x", "metadata": {"n": NaN}}', "NaN"),
    ({"id": "empty", "text": "  "}, "neither text nor"),
    ({"id": "missing", "image": "nowhere.png"}, "nowhere.png"),
    ({"id": "bomb", "image": "bomb.png"}, "30000"),
    ({"id": "format", "image": "words.png"}, "words.png"),
    ({"id": "unspeakable", "text": "unspeakable"}, "told to fail"),
    ({"id": "web", "image": "https://example.org/a.png"}, "URL"),
    ({"id": "good", "text": "a second of this id"}, "used before"),
    ("[1]", "a list"),
]


def test_bad_items_are_reported_and_the_rest_goes_on(cli: Cli, fake: FakeEncoder, tmp_path: Path, lines: Lines) -> None:
    (tmp_path / "bomb.png").write_bytes(png_bomb(30000, 30000))
    (tmp_path / "words.png").write_text("these are words")
    long = {"id": "long", "text": "word " * 20_000}
    source = lines(tmp_path / "items.jsonl", {"id": "good", "text": "fine"}, *(item for item, _ in BAD), long)
    done = cli("index", source, "-c", tmp_path / "c", "--json")
    found = done.document
    assert done.code == 1
    assert (found["indexed"], found["failed"], found["documents"]) == (2, len(BAD), 2)
    report = read_report(tmp_path / "c.failures.jsonl")
    assert found["report"] == str(tmp_path / "c.failures.jsonl")
    by_line = {row["line"]: row for row in report}
    for number, (_, reason) in enumerate(BAD, start=2):
        assert reason in by_line[number]["reason"], number
        assert by_line[number]["source"] == str(source)
    assert {row["line"] for row in found["failures"]} == set(by_line)
    assert done.err.count(f"{source}:") == 5
    assert f"... and {len(BAD) - 5} more" in done.err
    assert "Traceback" not in done.err
    assert cli("verify", "-c", tmp_path / "c").code == 0


def test_a_report_of_the_past_goes_when_nothing_fails(
    cli: Cli, fake: FakeEncoder, tmp_path: Path, lines: Lines
) -> None:
    source = lines(tmp_path / "items.jsonl", "{", {"id": "a", "text": "a"})
    report = tmp_path / "c.failures.jsonl"
    assert cli("index", source, "-c", tmp_path / "c").code == 1
    assert report.exists()
    lines(source, {"id": "a", "text": "a"})
    assert cli("index", source, "-c", tmp_path / "c").code == 0
    assert not report.exists()


def test_a_report_that_was_asked_for_is_always_written(
    cli: Cli, fake: FakeEncoder, corpus: Path, tmp_path: Path
) -> None:
    done = cli("index", corpus, "-c", tmp_path / "c", "--report", tmp_path / "r.jsonl", "--json")
    assert done.document["report"] == str(tmp_path / "r.jsonl")
    assert (tmp_path / "r.jsonl").read_text() == ""
    inside = cli("index", corpus, "-c", tmp_path / "c", "--report", tmp_path / "c" / "r.jsonl")
    assert inside.code == 2
    assert "inside the collection" in inside.error


def test_an_existing_collection_keeps_its_encoder(cli: Cli, fake: FakeEncoder, corpus: Path, tmp_path: Path) -> None:
    assert cli("index", corpus, "-c", tmp_path / "c", "--encoder", "other").code == 0
    assert cli("index", corpus, "-c", tmp_path / "c", "--json").document["encoder"] == "other"
    refused = cli("index", corpus, "-c", tmp_path / "c", "--encoder", "mini", "--json")
    assert refused.code == 2
    assert refused.document["error"]["code"] == "encoder_mismatch"
    assert "other" in refused.error
    assert "mini" in refused.error


def test_an_unknown_encoder(cli: Cli, corpus: Path, tmp_path: Path) -> None:
    refused = cli("index", corpus, "-c", tmp_path / "c", "--encoder", "nosuch:model")
    assert refused.code == 2
    assert "nosuch:model" in refused.error
    assert not (tmp_path / "c").exists()


def test_a_folder_of_other_things_is_left_alone(cli: Cli, fake: FakeEncoder, corpus: Path) -> None:
    before = sorted(corpus.parent.iterdir())
    refused = cli("index", corpus, "-c", corpus.parent, "--json")
    assert refused.code == 2
    assert refused.document["error"]["code"] == "not_a_collection"
    assert sorted(corpus.parent.iterdir()) == before


def test_a_collection_of_the_future(cli: Cli, collection: Path, corpus: Path) -> None:
    manifest = collection / "mmseek.json"
    manifest.write_text(manifest.read_text().replace('"format_version": 1', '"format_version": 99'))
    for line in (["index", corpus], ["info"], ["search", "x"], ["verify"], ["delete", "t", "--yes"]):
        refused = cli(*line, "-c", collection, "--json")
        assert refused.code == 2, line
        assert refused.document["error"]["code"] == "format_too_new", line


def test_a_second_writer_is_refused(cli: Cli, collection: Path, corpus: Path) -> None:
    from mmseek.index import open_collection

    writer = open_collection(collection, mode="write")
    try:
        refused = cli("index", corpus, "-c", collection, "--json")
    finally:
        writer.close()
    assert refused.code == 2
    assert refused.document["error"]["code"] == "collection_locked"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write to read-only folders")
def test_a_read_only_folder(cli: Cli, fake: FakeEncoder, corpus: Path, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    refused = cli("index", corpus, "-c", closed / "c")
    assert refused.code == 2
    assert str(closed) in refused.error


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody may write to")
def test_a_place_where_nobody_may_write(cli: Cli, fake: FakeEncoder, corpus: Path) -> None:
    refused = cli("index", corpus, "-c", "/proc/c", "--json")
    assert refused.code == 2
    assert refused.document["error"]["code"] == "storage_error"
    assert "/proc/c" in refused.error


def test_a_disk_that_fills_up(
    cli: Cli, fake: FakeEncoder, tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmseek.index.collection import LocalCollection

    store, stored = LocalCollection.upsert, 0

    def filling(self: LocalCollection, documents: Any, *rest: Any, **options: Any) -> None:
        nonlocal stored
        if stored >= 4:
            raise StorageError("the disk is full")
        stored += len(documents)
        store(self, documents, *rest, **options)

    monkeypatch.setattr(LocalCollection, "upsert", filling)
    items = [{"id": f"i{number}", "text": f"text {number}"} for number in range(10)]
    source = lines(tmp_path / "items.jsonl", *items)
    stopped = cli("index", source, "-c", tmp_path / "c", "--batch-size", "2", "--json")
    assert stopped.code == 2
    assert stopped.document["error"]["code"] == "storage_error"
    assert "4 documents" in stopped.error
    monkeypatch.undo()


def test_ctrl_c_keeps_what_is_stored(
    cli: Cli, fake: FakeEncoder, tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = fake.stream

    def interrupted(requests: Iterator[EncodeRequest]) -> Iterator[Encoded]:
        for number, answer in enumerate(stream(requests)):
            if number == 5:
                raise KeyboardInterrupt
            yield answer

    items = [{"id": f"i{number}", "text": f"text {number}"} for number in range(10)]
    source = lines(tmp_path / "items.jsonl", *items)
    with monkeypatch.context() as patch:
        patch.setattr(fake, "stream", interrupted)
        stopped = cli("index", source, "-c", tmp_path / "c", "--batch-size", "2", "--json")
    assert stopped.code == 130
    assert stopped.error == "stopped; documents stored by this run: 4; run the same command again to go on"
    assert stopped.document["error"]["code"] == "stopped"
    resumed = cli("index", source, "-c", tmp_path / "c", "--resume", "--json").document
    assert (resumed["indexed"], resumed["unchanged"], resumed["documents"]) == (6, 4, 10)


def test_indexing_the_folder_that_the_collection_stands_in(
    cli: Cli, fake: FakeEncoder, tmp_path: Path, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines(tmp_path / "items.jsonl", {"id": "a", "text": "a"}, "{")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        # Neither the collection nor the report of the first run is taken for documents by the second.
        done = cli("index", ".", "-c", "my.index", "--json")
        assert (done.document["documents"], done.document["failed"]) == (1, 1)
