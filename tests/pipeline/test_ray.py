"""The engine ray against the local one, on a cluster of this machine: equal results, a killed worker, nothing left."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmseek import Content, Document, Image
from mmseek.cli import run
from mmseek.errors import EngineError, ItemError, MissingExtra
from mmseek.index import open_collection
from mmseek.index.corpus import Located, Skipped, read_corpus
from mmseek.pipeline.indexing import index_corpus
from mmseek.pipeline.partitioned import RayOptions, index_on_ray
from mmseek.pipeline.partitioned import run as running
from mmseek.pipeline.partitioned.cluster import cluster
from mmseek.pipeline.report import Progress
from mmseek.protocols import Collection
from mmseek.testing import FakeEncoder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc"),
]
OPTIONS = RayOptions(actors=2, partitions=4)


def children() -> dict[int, str]:
    """The processes below this one: number and command."""
    parents, commands = dict[int, int](), dict[int, str]()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            commands[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended

    def below(number: int) -> bool:
        while number in parents and number != os.getpid():
            number = parents[number]
        return number == os.getpid()

    return {number: commands[number] for number in parents if number != os.getpid() and below(number)}


def open_ports(numbers: set[int]) -> set[str]:
    """Addresses, in hex, on which these processes listen."""
    sockets = set()
    for number in numbers:
        for link in Path(f"/proc/{number}/fd").glob("*"):
            try:
                sockets.add(str(link.readlink()))
            except OSError:
                continue
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for row in Path(table).read_text().splitlines()[1:]:
            fields = row.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                found.add(fields[1].partition(":")[0])
    return found


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    with cluster(None, cpus=4, object_store_bytes=80 * 1024**2) as started:
        yield started
    end = time.monotonic() + 120
    while (left := [words for words in children().values() if "ray" in words]) and time.monotonic() < end:
        time.sleep(0.05)
    assert left == [], "nothing of Ray is left"


@pytest.fixture
def corpus(tmp_path: Path, png: Callable[[str], bytes]) -> list[Any]:
    """Texts, pictures as files and as bytes, and one of each kind of trouble."""
    found: list[Any] = []
    for number in range(90):
        parts: list[Any] = [f"text {number}"]
        if number % 9 == 0:
            path = tmp_path / f"{number}.png"
            path.write_bytes(png(f"#{number:06x}"))
            parts.append(path)
        elif number % 9 == 4:
            parts.append(Image(data=png(f"#00{number:04x}")))
        place = {"source": "c.jsonl", "line": number}
        found.append(Located(f"d{number}", Content.of(*parts), {"n": number}, "p" if number % 2 else None, **place))
    found.insert(20, Located("gone", Content.of(tmp_path / "gone.png"), source="c.jsonl", line=100))
    found.insert(40, Located("d7", Content.of("again"), source="c.jsonl", line=101))
    found.insert(50, Document("no", Content.of("unspeakable")))
    found.insert(60, Document("x" * 2000, Content.of("an id that no collection takes")))
    found.insert(70, ItemError("is no JSON", source="c.jsonl", line=102))
    found.insert(80, Skipped("a.zip", "is a zip"))
    return found


def held(collection: Collection) -> dict[str, tuple[Document, Any, str]]:
    documents = {document.id: document for document in collection.documents()}
    vectors, digests = collection.vectors(list(documents)), collection.digests(list(documents))
    assert collection.info().documents == len(documents)
    return {name: (documents[name], vectors[name], digests[name]) for name in documents}


def assert_equal(collection: Collection, expected: Collection) -> None:
    one, other = held(collection), held(expected)
    assert one.keys() == other.keys()
    for name, (document, vector, digest) in one.items():
        assert [part for part in document.content.parts if getattr(part, "data", None) is None]
        assert (document.metadata, document.parent_id, digest) == (
            other[name][0].metadata,
            other[name][0].parent_id,
            other[name][2],
        )
        assert document.content.texts == other[name][0].content.texts
        assert len(document.content.images) == len(other[name][0].content.images)
        np.testing.assert_allclose(vector, other[name][1], atol=1e-6)


def dying_once(died: Path) -> Callable[[], FakeEncoder]:
    """Makes encoders of which one, in the middle of a document, kills the process that it is in."""

    def load() -> FakeEncoder:  # within a function, so that it goes to the workers whole
        class Dying(FakeEncoder):
            def _vector(self, content: Content) -> Any:
                if content.text == "text 41" and not died.exists():
                    died.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                return super()._vector(content)

        return Dying(fail_on="unspeakable")

    return load


def test_the_same_as_the_local_engine_though_a_worker_is_killed(ray: Any, corpus: list[Any], tmp_path: Path) -> None:
    encoder = FakeEncoder(fail_on="unspeakable")
    local = open_collection(tmp_path / "local", mode="create", encoder=encoder.identity)
    expected = index_corpus(corpus, encoder, local)
    place = tmp_path / "on-ray"
    collection = open_collection(place, mode="create", encoder=encoder.identity)
    died = tmp_path / "died"
    ports: set[str] = set()

    def look(now: Progress) -> None:
        if now.indexed and not ports:
            ports.update(open_ports(set(children())))

    def go(on_progress: Callable[[Progress], None] | None = None) -> Any:
        return index_on_ray(
            corpus,
            collection,
            place,
            dying_once(died),
            tmp_path / "on-ray.ray",
            options=OPTIONS,
            batch_size=8,
            on_progress=on_progress,
        )

    report = go(look)

    assert died.exists()
    assert ports == {"0100007F", "0000000000000000FFFF00000100007F"}, "the loopback and nothing else"
    assert (report.indexed, report.unchanged) == (expected.indexed, 0) == (90, 0)
    assert sorted(str(error) for error in report.failed) == sorted(str(error) for error in expected.failed)
    assert [error.item_id for error in report.failed] == ["gone", "d7", "no", "x" * 2000, None], "as in the corpus"
    assert report.skipped == expected.skipped
    assert len(report.failed) == 5
    assert_equal(collection, local)
    assert collection.verify().ok
    stored = [document.id for document in collection.documents()]
    assert not (tmp_path / "on-ray.ray" / "plan").exists()

    # Again: partitions without failures are passed over, in the others only the two that changed are encoded.
    good = [entry for entry in corpus if isinstance(entry, Document) and entry.id.startswith("d")]
    corpus[:] = [document for document in good if document.content.text != "again"]
    corpus[3] = Document("d3", Content.of("changed"), {"n": 3})
    collection.delete(["d5"])
    again = go()
    assert (again.indexed, again.unchanged, again.failed) == (2, len(corpus) - 2, ())
    assert sorted(document.id for document in collection.documents()) == sorted(stored)
    collection.close()
    local.close()


def test_what_is_finished_needs_no_workers(ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = FakeEncoder()
    documents = [Document(f"d{number}", Content.of(f"text {number}")) for number in range(20)]
    place = tmp_path / "c"
    with_ray = partial(index_on_ray, place=place, load=FakeEncoder, folder=tmp_path / "c.ray", options=OPTIONS)
    collection = open_collection(place, mode="create", encoder=encoder.identity)
    assert with_ray(documents, collection).indexed == 20

    def no_cluster(*_: Any, **__: Any) -> Any:
        raise EngineError("workers are asked for")

    monkeypatch.setattr(running, "cluster", no_cluster)
    report = with_ray(documents, collection)
    assert (report.indexed, report.unchanged, report.failed) == (0, 20, ())
    for change in (
        lambda: collection.delete(["d5"]),
        lambda: documents.__setitem__(5, Document("d5", Content.of("other"))),
        lambda: documents.append(Document("new", Content.of("new"))),
    ):
        change()
        with pytest.raises(EngineError, match="workers are asked for"):
            with_ray(documents, collection)
    collection.close()


def test_pages_have_the_digests_of_the_local_engine(
    ray: Any, tmp_path: Path, make_pdf: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = FakeEncoder()
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "r.pdf").write_bytes(make_pdf(["one", "two", "three"]))
    (docs / "a.txt").write_text("words")
    local = open_collection(tmp_path / "local", mode="create", encoder=encoder.identity)
    index_corpus(read_corpus(docs), encoder, local)
    place = tmp_path / "on-ray"
    collection = open_collection(place, mode="create", encoder=encoder.identity)

    def go() -> Any:
        return index_on_ray(read_corpus(docs), collection, place, FakeEncoder, tmp_path / "w", options=OPTIONS)

    assert go().indexed == 4
    assert_equal(collection, local)
    assert index_corpus(read_corpus(docs), encoder, collection).unchanged == 4, "either engine goes on with the other's"

    # One page less: what is left is made anew, for the file has changed, and the last page leaves.
    (docs / "r.pdf").write_bytes(make_pdf(["one", "two"]))
    report = go()
    assert (report.indexed, report.unchanged, report.removed) == (2, 1, 1)
    monkeypatch.setattr("mmseek.index.corpus.pdf._drawn", None)  # no page is drawn again
    (docs / "a.txt").write_text("other words")
    report = go()
    assert (report.indexed, report.unchanged, report.failed) == (1, 2, ())
    local.close()
    collection.close()


def test_several_writers_on_a_qdrant_server(ray: Any, corpus: list[Any], tmp_path: Path) -> None:
    encoder = FakeEncoder(fail_on="unspeakable")
    with fake_qdrant().FakeQdrant() as server:
        place = server.location()
        collection = open_collection(place, mode="write", encoder=encoder.identity)
        load = partial(FakeEncoder, fail_on="unspeakable")
        report = index_on_ray(corpus, collection, place, load, tmp_path / "w", options=OPTIONS, batch_size=16)
        assert report.indexed == 90
        assert sorted(str(error.item_id) for error in report.failed) == sorted(["gone", "d7", "no", "x" * 2000, "None"])
        local = open_collection(tmp_path / "local", mode="create", encoder=encoder.identity)
        index_corpus(corpus, encoder, local)
        assert_equal(collection, local)
        local.close()
        collection.close()


def fake_qdrant() -> Any:
    path = Path(__file__).parents[1] / "index" / "fake_qdrant.py"
    spec = importlib.util.spec_from_file_location("fake_qdrant_of_ray", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fake_qdrant_of_ray"] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def test_the_command(ray: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    load = lambda spec="mini", *, device=None: FakeEncoder(spec=spec, fail_on="unspeakable")  # noqa: E731
    monkeypatch.setattr("mmseek.embed.load_encoder", load)
    items = tmp_path / "items.jsonl"
    items.write_text(
        "".join(json.dumps({"id": f"d{n}", "text": "unspeakable" if n == 3 else f"t {n}"}) + "\n" for n in range(9))
    )
    # The folder of the corpus holds the collection too; neither it nor what the run keeps is read as documents.
    line = [
        "index",
        str(tmp_path),
        "-c",
        str(tmp_path / "c"),
        "--engine",
        "ray",
        "--ray-actors",
        "1",
        "--partitions",
        "2",
    ]

    assert run([*line, "--json"]) == 1

    told = json.loads(capfd.readouterr().out)
    assert (told["indexed"], told["failed"], told["failures"][0]["id"]) == (8, 1, "d3")
    assert told["skipped"] == 2
    assert "unspeakable" in (tmp_path / "c.failures.jsonl").read_text()
    assert (tmp_path / "c.ray" / "ray-ledger.jsonl").exists()


def test_an_encoder_that_workers_cannot_use_is_one_sentence(ray: Any, tmp_path: Path) -> None:
    collection = open_collection(tmp_path / "c", mode="create", encoder=FakeEncoder().identity)
    documents = [Document("a", Content.of("text"))]
    with pytest.raises(EngineError, match=r"a worker cannot use the encoder: it is other .* and the collection's is"):
        index_on_ray(documents, collection, tmp_path / "c", partial(FakeEncoder, spec="other"), tmp_path / "w")
    collection.close()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ray" else found(name))
    monkeypatch.delitem(sys.modules, "mmseek.pipeline.partitioned")
    with pytest.raises(MissingExtra, match=r"mmseek\[ray\]"):
        importlib.import_module("mmseek.pipeline.partitioned")
