"""Plans, ledgers and lines of the engine ray, without Ray."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmseek import Content, Document, Image, Text
from mmseek.errors import EngineError, InputError, ItemError
from mmseek.index import open_collection
from mmseek.index.corpus import Located, Skipped
from mmseek.pipeline.partitioned import RayOptions, index_on_ray, takes_many_writers
from mmseek.pipeline.partitioned import run as running
from mmseek.pipeline.partitioned.ledger import Checksum, Head, Ledger, mark
from mmseek.pipeline.partitioned.lines import from_line, to_line
from mmseek.pipeline.partitioned.plan import Partition, make_plan, partition_of, read_partition
from mmseek.pipeline.partitioned.stages import EncodeActor, read_partitions
from mmseek.pipeline.report import IndexReport
from mmseek.testing import FakeEncoder

HEAD = Head("/c", "2026-01-01", "abc", 4)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
parts = st.one_of(
    st.text().map(Text),
    st.binary(min_size=1).map(lambda data: Image(data=data)),
    st.binary(min_size=1).map(lambda data: Image(data=data, frame=(1, 8))),
    st.sampled_from([Image(path=Path("/p/ä\udcff.png")), Image(url="https://example.org/a.png")]),
)
contents = st.lists(parts, max_size=4).map(lambda found: Content(tuple(found)))
documents = st.builds(
    Located,
    st.text(min_size=1),
    contents,
    st.dictionaries(st.text(), json_values, max_size=3),
    st.none() | st.text(min_size=1),
    source=st.text(),
    line=st.none() | st.integers(1),
)


@given(documents)
def test_a_document_is_the_same_after_a_line(document: Located) -> None:
    line = to_line(document)

    assert b"\n" not in line
    assert from_line(line) == document
    plain = Document(document.id, document.content, document.metadata, document.parent_id)
    assert from_line(to_line(plain)) == plain
    assert to_line(plain).partition(b"\t")[2] == line.partition(b"\t")[2], "behind the place equal documents are equal"


def test_the_partition_of_an_id_never_changes() -> None:
    assert [partition_of(name, 64) for name in ("a", "photos/b.jpg", "ä")] == [47, 56, 57]
    counts = [0] * 8
    for number in range(4000):
        counts[partition_of(f"d{number}", 8)] += 1
    assert min(counts) > 400


def test_a_plan_has_every_document_once_in_order_and_every_failure(tmp_path: Path) -> None:
    texts = [Document(f"d{number}", Content.of(f"text {number}")) for number in range(50)]
    bad = [
        Document("d3", Content.of("again")),
        Document("empty", Content.of(" ")),
        Document("nan", Content.of("x"), {"a": float("nan")}),
        Document("\ud800", Content.of("x")),
        ItemError("is no JSON", source="c.jsonl", line=9),
    ]

    plan = make_plan([*texts, Skipped("a.zip", "is a zip"), *bad], tmp_path, 4)

    read = {part.number: list(read_partition(tmp_path, part.number)) for part in plan.partitions}
    assert [part.items for part in plan.partitions] == [len(rows) for rows in read.values()]
    orders = [[order for order, _, _ in rows] for rows in read.values()]
    assert all(found == sorted(found) for found in orders)
    assert sorted(order for found in orders for order in found) == list(range(50))
    for number, rows in read.items():
        assert all(document == texts[order] and partition_of(document.id, 4) == number for order, _, document in rows)
    assert [order for order, _ in plan.failed] == [51, 52, 53, 54, 55]
    assert [error.item_id for _, error in plan.failed] == ["d3", "empty", "nan", "\ud800", None]
    assert [notice.source for notice in plan.skipped] == ["a.zip"]


def test_a_signature_tells_what_changed(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"

    def signature(document: Document) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        (part,) = make_plan([document], folder, 4).partitions
        return part.signature

    def located(text: str, line: int) -> Located:
        return Located("a", Content.of(text, picture), source="c.jsonl", line=line)

    absent = signature(located("x", 1))
    picture.write_bytes(b"one")
    first = signature(located("x", 1))
    assert first != absent
    assert signature(located("x", 7)) == first, "a document that moved within its file is the same"
    assert signature(located("y", 1)) != first
    before = picture.stat()
    picture.write_bytes(b"two")
    os.utime(picture, ns=(before.st_atime_ns, before.st_mtime_ns))  # a copy that keeps times
    assert signature(located("x", 1)) != first


def test_a_checksum_does_not_depend_on_the_order() -> None:
    def of(*marks: bytes) -> str:
        checksum = Checksum()
        for found in marks:
            checksum.add(found)
        return str(checksum)

    a, b = mark("a", "1"), mark("b", "2")
    assert of(a, b) == of(b, a)
    assert len({of(), of(a), of(b), of(a, b), of(a, a), of(mark("a", "2"), mark("b", "1"))}) == 6


def test_a_ledger_remembers_what_is_finished_until_something_differs(tmp_path: Path) -> None:
    path, part, stored = tmp_path / "ledger.jsonl", Partition(1, 5, "sig"), Checksum()
    with Ledger(path, HEAD) as ledger:
        assert ledger.stored(part) is None
        ledger.finish(part, stored)
        ledger.finish(Partition(2, 7, "other"), stored)
    whole = path.read_bytes()

    with path.open("ab") as file:
        file.write(whole.splitlines()[1][:20])  # torn by a kill
    with Ledger(path, HEAD) as ledger:
        assert ledger.stored(part) == str(stored)
        assert ledger.stored(Partition(1, 6, "sig")) is None
        assert ledger.stored(Partition(1, 5, "changed")) is None
        assert ledger.stored(Partition(3, 5, "sig")) is None
    assert path.read_bytes() == whole, "the torn line is gone"
    for head in (Head("/d", "2026-01-01", "abc", 4), Head("/c", "2026-01-01", "abc", 5)):
        path.write_bytes(whole)
        with Ledger(path, head) as ledger:
            assert ledger.stored(part) is None


@pytest.mark.parametrize("damage", [b"", b"\xff\x00", b"[]\n", b"{}\n{}\n", json.dumps([1]).encode()])
def test_a_damaged_ledger_means_that_nothing_is_finished(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(damage)
    with Ledger(path, HEAD) as ledger:
        assert ledger.stored(Partition(1, 5, "sig")) is None


def test_what_one_process_has_open_is_refused(tmp_path: Path) -> None:
    assert takes_many_writers("qdrant://localhost:6333/c") is True
    assert takes_many_writers(tmp_path) is False
    for place in ("qdrant-edge:x", "qdrant-local::memory:x"):
        with pytest.raises(InputError, match="one process at a time"):
            takes_many_writers(place)


class Losing:
    """Workers in this process that give one table twice, and lose the last one while there are passes to spoil."""

    def __init__(self, spoiled: int) -> None:
        self.spoiled = spoiled
        self.passes = 0

    def tables(self, run: Any, ray: Any) -> Iterator[pa.Table]:
        self.passes += 1
        actor, stage = EncodeActor(FakeEncoder, run._stage), run._stage
        read = [found for number in run._open for found in read_partitions(pa.table({"partition": [number]}), stage)]
        encoded = [found for table in read for found in actor(table)]
        yield encoded[0]
        yield from encoded[:-1] if self.passes <= self.spoiled else encoded


@pytest.mark.parametrize("spoiled", [1, 99])
def test_every_document_counts_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoiled: int) -> None:
    losing = Losing(spoiled)
    monkeypatch.setattr(running._Run, "_tables", lambda run, ray: losing.tables(run, ray))
    monkeypatch.setattr(running, "cluster", lambda *_, **__: nullcontext())
    documents = [Document(f"d{number}", Content.of(f"text {number}")) for number in range(40)]
    place = tmp_path / "c"
    collection = open_collection(place, mode="create", encoder=FakeEncoder().identity)

    def go() -> IndexReport:
        work = tmp_path / "w"
        return index_on_ray(
            documents, collection, place, FakeEncoder, work, options=RayOptions(partitions=4), batch_size=4
        )

    if spoiled == 99:
        with pytest.raises(EngineError, match="documents did not come back from the workers"):
            go()
        losing.spoiled = losing.passes
        report = go()
        assert (report.indexed + report.unchanged, report.failed) == (40, ())
    else:
        report = go()
        assert (report.indexed, report.unchanged, report.failed, losing.passes) == (40, 0, (), 2)
    stored = [document.id for document in collection.documents()]
    assert sorted(stored) == sorted(document.id for document in documents)
    collection.close()


@pytest.mark.parametrize("wrong", [{"actors": 0}, {"writers": 0}, {"partitions": 0}, {"partitions": 10**6}])
def test_options_have_their_ranges(wrong: dict[str, int]) -> None:
    with pytest.raises(InputError):
        RayOptions(**wrong)
