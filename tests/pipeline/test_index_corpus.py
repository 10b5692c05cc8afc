"""Documents in, durable collection out: nothing twice, nothing lost, failures alone."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseek import Content, Document, Image
from mmseek.digest import digest
from mmseek.errors import EncoderMismatch, InputError, ItemError, StorageError
from mmseek.index import open_collection
from mmseek.index.corpus import Deferred, Skipped, held_bytes, read_corpus
from mmseek.pipeline.indexing import index_corpus
from mmseek.pipeline.jobs import Job, chunks
from mmseek.pipeline.report import IndexingInterrupted, IndexingStopped, Progress
from mmseek.protocols import Collection
from mmseek.testing import FakeEncoder


def texts(*words: str) -> list[Document]:
    return [Document(word, Content.of(f"text {word}")) for word in words]


def held(collection: Collection) -> list[str]:
    return [document.id for document in collection.documents()]


class Failing:
    """A collection whose disk fails at the n-th upsert, or whose user presses Ctrl-C there."""

    def __init__(self, collection: Collection, at: int, error: BaseException) -> None:
        self._collection = collection
        self._left = at
        self._error = error

    def __getattr__(self, name: str) -> object:
        return getattr(self._collection, name)

    def upsert(self, *arguments: object) -> None:
        self._left -= 1
        if self._left == 0:
            raise self._error
        self._collection.upsert(*arguments)  # type: ignore[arg-type]


class Recording:
    """A collection that notes how many documents come at once."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self.sizes: list[int] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._collection, name)

    def upsert(self, documents: Sequence[Document], *arguments: object) -> None:
        self.sizes.append(len(documents))
        self._collection.upsert(documents, *arguments)  # type: ignore[arg-type]


def test_documents_are_stored_with_their_own_vectors(collection: Collection, encoder: FakeEncoder) -> None:
    documents = texts("a", "b", "c")

    report = index_corpus(documents, encoder, collection, batch_size=2)

    assert (report.indexed, report.unchanged, report.failed, report.ok) == (3, 0, (), True)
    assert list(collection.documents()) == documents
    for document in documents:
        (hit,) = collection.search(encoder.encode_query([document.content])[0], 1)
        assert hit.id == document.id
        assert hit.score == pytest.approx(1.0, abs=1e-6)
    assert collection.digests(["b"]) == {"b": digest(documents[1].content)}


def test_unchanged_documents_are_not_encoded_again(collection: Collection, encoder: FakeEncoder) -> None:
    index_corpus(texts("a", "b", "c"), encoder, collection)
    encoder.calls = 0

    report = index_corpus([*texts("a", "b"), Document("c", Content.of("other"))], encoder, collection)

    assert (report.indexed, report.unchanged) == (1, 2)
    assert encoder.calls == 1
    assert collection.get(["c"])["c"].content.text == "other"
    assert sorted(held(collection)) == ["a", "b", "c"]


def test_changed_metadata_is_stored(collection: Collection, encoder: FakeEncoder) -> None:
    index_corpus([Document("a", Content.of("x"), {"lang": "en"})], encoder, collection)

    report = index_corpus([Document("a", Content.of("x"), {"lang": "de"})], encoder, collection)

    assert report.indexed == 1
    assert collection.get(["a"])["a"].metadata == {"lang": "de"}


def test_changed_picture_is_noticed(
    tmp_path: Path, collection: Collection, encoder: FakeEncoder, png: Callable[[str], bytes]
) -> None:
    path = tmp_path / "p.png"
    document = Document("p", Content.of(path))
    path.write_bytes(png("red"))
    assert index_corpus([document], encoder, collection).indexed == 1
    assert index_corpus([document], encoder, collection).unchanged == 1

    path.write_bytes(png("blue"))

    assert index_corpus([document], encoder, collection).indexed == 1


def test_moved_picture_is_found_at_its_new_place(
    tmp_path: Path, collection: Collection, encoder: FakeEncoder, png: Callable[[str], bytes]
) -> None:
    for folder in ("old", "new"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "p.png").write_bytes(png("red"))
    index_corpus(read_corpus(tmp_path / "old"), encoder, collection)

    report = index_corpus(read_corpus(tmp_path / "new"), encoder, collection)

    assert report.indexed == 1
    assert collection.get(["p.png"])["p.png"].content.images == (Image(path=tmp_path / "new/p.png"),)


def test_picture_given_as_bytes_is_unchanged_the_second_time(
    collection: Collection, encoder: FakeEncoder, png: Callable[[str], bytes]
) -> None:
    document = Document("p", Content((Image(data=png("red")),)))
    index_corpus([document], encoder, collection)

    assert index_corpus([document], encoder, collection).unchanged == 1


def test_failures_stay_alone_and_have_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, collection: Collection, png: Callable[[str], bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("docs").mkdir()
    Path("docs/good.png").write_bytes(png("red"))
    Path("docs/cut.png").write_bytes(png("red")[:40])
    Path("docs/none.jpg").write_bytes(b"")
    Path("docs/other.gif").write_bytes(b"words")
    Path("docs/bomb.png").write_bytes(bomb(30_000, 30_000))
    Path("docs/long.txt").write_text("word " * 20_000)
    Path("docs/old.odt").write_bytes(b"PK")
    lines = [
        '{"id": "gone", "image": "gone.png"}',
        '{"id": "broken", "text": ',
        '{"id": "cursed", "text": "a CURSED text"}',
        '{"id": "fine", "text": "words"}',
    ]
    Path("docs/n.jsonl").write_text("\n".join(lines))

    report = index_corpus(read_corpus("docs", passage_chars=0), FakeEncoder(fail_on="CURSED"), collection, batch_size=2)

    assert sorted(held(collection)) == ["fine", "good.png", "long.txt"]
    assert report.indexed == 3
    assert report.skipped == (Skipped("docs/old.odt", "is a file of a format that is not read (.odt)"),)
    messages = sorted(str(error) for error in report.failed)
    folder = tmp_path / "docs"
    assert messages[0].startswith(f"docs/bomb.png: {folder}/bomb.png has 30000 x 30000 pixels, more than the limit")
    assert messages[1].startswith(f"docs/cut.png: {folder}/cut.png is a truncated or damaged PNG")
    assert messages[2].startswith(f"docs/n.jsonl:1: {folder}/gone.png does not exist")
    assert messages[3].startswith("docs/n.jsonl:2: is not JSON")
    assert messages[4] == "docs/n.jsonl:3: the fake encoder was told to fail on 'CURSED'"
    assert messages[5].startswith(f"docs/none.jpg: {folder}/none.jpg is empty")
    assert messages[6].startswith(f"docs/other.gif: {folder}/other.gif is not a picture of a known format")
    assert len(messages) == 7
    assert not any("\n" in message for message in messages)
    assert collection.get(["long.txt"])["long.txt"].content.text == "word " * 20_000


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header promises more than its few bytes hold."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_documents_of_any_origin_fail_alone(collection: Collection, encoder: FakeEncoder) -> None:
    documents = [
        Document("empty", Content.of("  ")),
        Document("twice", Content.of("first")),
        Document("twice", Content.of("second")),
        Document("half\ud800", Content.of("words")),
        Document("", Content.of("no id")),
        Document("n" * 5000, Content.of("words")),
        Document("numbers", Content.of("words"), {"score": float("nan")}),
        Document("url", Content((Image(url="https://example.org/a.png"),))),
        Document("good", Content.of("words")),
    ]

    report = index_corpus(documents, encoder, collection)

    assert held(collection) == ["twice", "good"]
    assert collection.get(["twice"])["twice"].content.text == "first"
    assert sorted(error.item_id or "" for error in report.failed) == sorted(
        ["empty", "twice", "half\ud800", "", "n" * 5000, "numbers", "url"]
    )
    assert report.indexed == 2


def test_failure_leaves_what_was_stored_before(collection: Collection) -> None:
    index_corpus(texts("a"), FakeEncoder(), collection)

    report = index_corpus([Document("a", Content.of("CURSED"))], FakeEncoder(fail_on="CURSED"), collection)

    assert len(report.failed) == 1
    assert collection.get(["a"])["a"].content.text == "text a"


def test_failures_keep_no_frames_alive(collection: Collection, encoder: FakeEncoder) -> None:
    def entries() -> Iterator[ItemError]:
        try:
            raise ItemError("is bad", source="f", line=3)
        except ItemError as error:
            yield error

    report = index_corpus([*entries(), Document("e", Content(()))], encoder, collection)

    assert [error.line for error in report.failed] == [3, None]
    assert all(error.__traceback__ is None and error.__context__ is None for error in report.failed)


def test_another_encoder_is_refused(collection: Collection) -> None:
    with pytest.raises(EncoderMismatch, match=r"fake .*not of other"):
        index_corpus(texts("a"), FakeEncoder(spec="other"), collection)


def test_batch_size_is_checked(collection: Collection, encoder: FakeEncoder) -> None:
    with pytest.raises(InputError, match="batch_size must be at least 1, not 0"):
        index_corpus([], encoder, collection, batch_size=0)


def test_full_disk_stops_the_run_and_says_what_is_safe(collection: Collection, encoder: FakeEncoder) -> None:
    full = Failing(collection, 3, StorageError("the disk is full"))

    with pytest.raises(IndexingStopped, match="the disk is full; the 4 documents stored before by this run") as caught:
        index_corpus(texts(*"abcdefgh"), encoder, full, batch_size=2)  # type: ignore[arg-type]

    assert isinstance(caught.value, StorageError)
    assert caught.value.report.indexed == 4
    assert held(collection) == ["a", "b", "c", "d"]
    assert collection.verify().ok


def test_interruption_keeps_whole_batches_and_is_resumed(collection: Collection, encoder: FakeEncoder) -> None:
    pressed = Failing(collection, 2, KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt) as caught:
        index_corpus(texts(*"abcdef"), encoder, pressed, batch_size=2)  # type: ignore[arg-type]

    assert isinstance(caught.value, IndexingInterrupted)
    assert caught.value.report.indexed == 2
    assert collection.verify().ok
    report = index_corpus(texts(*"abcdef"), encoder, collection, batch_size=2)
    assert (report.indexed, report.unchanged) == (4, 2)
    assert held(collection) == list("abcdef")


def test_interruption_while_reading_is_reported(collection: Collection, encoder: FakeEncoder) -> None:
    def documents() -> Iterator[Document]:
        yield from texts(*"abcdefghij")
        raise KeyboardInterrupt

    with pytest.raises(IndexingInterrupted) as caught:
        index_corpus(documents(), encoder, collection, batch_size=2)

    assert caught.value.report.indexed == len(held(collection))
    assert collection.verify().ok


@pytest.mark.parametrize(("batch_seconds", "sizes"), [(0.0, [1, 1, 1, 1, 1]), (3600.0, [2, 2, 1])])
def test_slow_batches_are_stored_before_they_are_full(
    collection: Collection, encoder: FakeEncoder, batch_seconds: float, sizes: list[int]
) -> None:
    recorded = Recording(collection)

    index_corpus(texts(*"abcde"), encoder, recorded, batch_size=2, batch_seconds=batch_seconds)  # type: ignore[arg-type]

    assert recorded.sizes == sizes


def test_reading_never_runs_far_ahead(collection: Collection, encoder: FakeEncoder) -> None:
    read = 0
    farthest = 0

    def documents() -> Iterator[Document]:
        nonlocal read, farthest
        for document in texts(*(str(number) for number in range(500))):
            read += 1
            farthest = max(farthest, read - collection.info().documents)
            yield document

    index_corpus(documents(), encoder, collection, batch_size=20)

    assert farthest <= 20 + 20 + 8 + 1  # a chunk, a batch, the encoder's window


def test_large_documents_are_stored_before_a_batch_is_full(
    collection: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what waits to be looked at nor what waits to be stored holds more than so many bytes of documents."""
    monkeypatch.setattr("mmseek.pipeline.indexing.BATCH_BYTES", 1000)
    recorded = Recording(collection)
    read = farthest = 0

    def large() -> Iterator[Document]:
        nonlocal read, farthest
        for number in range(40):
            read += 1
            farthest = max(farthest, read - sum(recorded.sizes))
            yield Document(str(number), Content.of(f"{number:02}" * 150))

    index_corpus(large(), FakeEncoder(window=1), recorded, batch_size=1000)  # type: ignore[arg-type]

    assert recorded.sizes == [4] * 10
    assert farthest <= 4 + 4 + 1, "a chunk, a batch, the encoder's window"


def test_jobs_are_cut_by_what_they_hold() -> None:
    documents = [Document(str(number), Content.of("x" * size)) for number, size in enumerate((10, 80, 20, 5, 5, 5))]
    jobs = [Job(document, "") for document in documents]
    assert [len(chunk) for chunk in chunks(jobs, 3, 90)] == [2, 3, 1]
    waiting = [Job(Deferred(str(number), "", "", lambda: documents[0], held=50), "") for number in range(3)]
    assert [len(chunk) for chunk in chunks(waiting, 9, 90)] == [2, 1]
    assert held_bytes(Content.frames(b"video", 8)) == 5, "the frames share it"


def test_progress_adds_up(collection: Collection, encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmseek.pipeline.indexing._PROGRESS_SECONDS", 0.0)
    index_corpus(texts("a"), encoder, collection)
    told: list[Progress] = []

    report = index_corpus(
        [*texts(*"abcd"), Document("e", Content(()))],
        encoder,
        collection,
        batch_size=2,
        total=5,
        on_progress=told.append,
    )

    assert [progress.done for progress in told] == sorted(progress.done for progress in told)
    last = told[-1]
    assert (last.done, last.total, last.indexed, last.unchanged, last.failed) == (5, 5, 3, 1, 1)
    assert last.rate == pytest.approx(5 / last.seconds)
    assert (report.indexed, report.unchanged, len(report.failed)) == (3, 1, 1)


pairs = st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from(["one", "two", "BAD", ""])), max_size=8)


@settings(max_examples=20)
@given(runs=st.lists(pairs, min_size=1, max_size=4), batch_size=st.integers(1, 4))
def test_any_sequence_of_runs_equals_a_plain_dictionary(
    tmp_path_factory: pytest.TempPathFactory, runs: Sequence[Sequence[tuple[str, str]]], batch_size: int
) -> None:
    encoder = FakeEncoder(fail_on="BAD", window=3)
    location = tmp_path_factory.mktemp("runs") / "c"
    expected: dict[str, str] = {}
    with open_collection(location, mode="create", encoder=encoder.identity) as collection:  # type: ignore[attr-defined]
        for run in runs:
            first: dict[str, str] = {}
            for name, text in run:
                first.setdefault(name, text)
            changed = {name: text for name, text in first.items() if text not in ("", "BAD")}
            fresh = {name for name, text in changed.items() if expected.get(name) != text}
            expected |= changed

            report = index_corpus(
                [Document(name, Content.of(text)) for name, text in run], encoder, collection, batch_size=batch_size
            )

            assert report.indexed == len(fresh)
            assert report.unchanged == len(changed) - len(fresh)
            assert len(report.failed) == len(run) - len(changed)
        assert {document.id: document.content.text for document in collection.documents()} == expected
        for name, text in expected.items():
            hits = collection.search(encoder.encode_query([Content.of(text)])[0], len(expected))
            assert name in {hit.id for hit in hits if np.isclose(hit.score, 1.0, atol=1e-5)}
