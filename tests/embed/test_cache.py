"""Vectors remembered on disk: the same as fresh ones, shared by processes, bounded, and never in the way."""

import multiprocessing
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseek import Content, EncodeRequest, Image
from mmseek.embed.cache_file import CacheFile
from mmseek.embed.cached import CachedEncoder
from mmseek.errors import EncodeError, InputError, MediaError
from mmseek.testing import FakeEncoder


@pytest.fixture
def file(tmp_path: Path) -> Iterator[CacheFile]:
    found = CacheFile(tmp_path / "cache" / "v1.sqlite")
    yield found
    found.close()


def requests(words: str) -> list[EncodeRequest]:
    return [EncodeRequest(Content.of(word)) for word in words.split()]


@settings(max_examples=25)
@given(runs=st.lists(st.lists(st.sampled_from(["a", "b", "c", "bad", "d"]), max_size=12), max_size=4))
def test_any_runs_give_fresh_vectors_in_order(runs: list[list[str]], tmp_path_factory: pytest.TempPathFactory) -> None:
    file = CacheFile(tmp_path_factory.mktemp("cache") / "v1.sqlite")
    cached = CachedEncoder(FakeEncoder(fail_on="bad", window=3), file)
    for words in runs:
        answers = list(cached.stream(EncodeRequest(Content.of(word)) for word in words))
        assert len(answers) == len(words)
        for word, answer in zip(words, answers, strict=True):
            if word == "bad":
                assert isinstance(answer.error, EncodeError)
            else:
                np.testing.assert_array_equal(answer.vector, FakeEncoder().encode_document([Content.of(word)])[0])
    file.close()


def test_what_was_encoded_is_not_encoded_again(file: CacheFile) -> None:
    encoder = FakeEncoder()
    cached = CachedEncoder(encoder, file)
    first = cached.encode_document([Content.of("a"), Content.of("b")])
    assert (encoder.calls, len(file)) == (2, 2)
    again = CachedEncoder(FakeEncoder(fail_on=""), file)  # it would fail on everything
    np.testing.assert_array_equal(again.encode_document([Content.of("b"), Content.of("a")]), first[::-1])
    assert (again.hits, again.misses) == (2, 0)


def test_many_hits_are_handed_out_before_more_is_read(file: CacheFile) -> None:
    cached = CachedEncoder(FakeEncoder(), file)
    cached.encode_document([Content.of("a")])
    read = 0

    def source() -> Iterator[EncodeRequest]:
        nonlocal read
        for _ in range(20_000):
            read += 1
            yield EncodeRequest(Content.of("a"))

    stream = cached.stream(source())
    next(stream)
    assert read < 6_000
    assert sum(1 for _ in stream) == 19_999


def test_everything_that_changes_a_vector_changes_the_key(file: CacheFile) -> None:
    cached = CachedEncoder(FakeEncoder(), file)
    base = EncodeRequest(Content.of("a"), "query", "find it")
    others = [
        replace(base, role="document"),
        replace(base, instruction=None),
        replace(base, instruction="find another"),
        replace(base, content=Content.of("b")),
        replace(base, content=Content.of("a", "")),
    ]
    keys = {cached._key(request) for request in [base, *others]}
    for other in (FakeEncoder(17), FakeEncoder(spec="other")):
        keys.add(CachedEncoder(other, file)._key(base))
    keys.add(CachedEncoder(FakeEncoder(), file, variant="cuda bfloat16")._key(base))
    assert len(keys) == 9
    named, written = (replace(base, instruction=words) for words in ("task:mbeir/cirr", None))
    assert cached._key(named) != cached._key(written)


def test_a_task_and_its_sentence_are_one_key(file: CacheFile) -> None:
    from mmseek.embed.instructions import resolve_instruction

    cached = CachedEncoder(FakeEncoder(), file)
    sentence = resolve_instruction("task:cirr")
    keys = [cached._key(EncodeRequest(Content.of("a"), "query", words)) for words in ("task:cirr", sentence)]
    assert keys[0] == keys[1]


def test_a_picture_counts_by_its_bytes(file: CacheFile, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cached = CachedEncoder(FakeEncoder(), file)
    PIL.Image.new("RGB", (8, 8), "red").save(path)
    red = cached.encode_document([Content.of(path)])
    np.testing.assert_array_equal(cached.encode_document([Content.of(Image(data=path.read_bytes()))]), red)
    assert (cached.hits, cached.misses) == (1, 1)
    PIL.Image.new("RGB", (8, 8), "blue").save(path)
    assert np.abs(cached.encode_document([Content.of(path)]) - red).max() > 0.1
    path.unlink()
    with pytest.raises(MediaError, match="does not exist"):
        cached.encode_document([Content.of(path)])


def test_a_picture_replaced_meanwhile_is_not_remembered(file: CacheFile, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    PIL.Image.new("RGB", (8, 8), "red").save(path)

    def source() -> Iterator[EncodeRequest]:
        yield EncodeRequest(Content.of(path))

    encoder = FakeEncoder()
    real = encoder.stream

    def late(asked):  # type: ignore[no-untyped-def]
        found = list(asked)
        PIL.Image.new("RGB", (8, 8), "blue").save(path)
        return real(found)

    encoder.stream = late  # type: ignore[method-assign]
    list(CachedEncoder(encoder, file).stream(source()))
    assert len(file) == 0


def test_an_error_of_the_source_comes_after_what_was_read(file: CacheFile) -> None:
    def source() -> Iterator[EncodeRequest]:
        yield from requests("a b")
        raise InputError("broken off")

    answers = []
    with pytest.raises(InputError, match="broken off"):
        answers.extend(CachedEncoder(FakeEncoder(), file).stream(source()))
    cached = CachedEncoder(FakeEncoder(), file)
    stream = cached.stream(source())
    assert [next(stream).error, next(stream).error] == [None, None]
    with pytest.raises(InputError, match="broken off"):
        next(stream)


def test_a_damaged_row_is_ignored_and_written_anew(file: CacheFile, tmp_path: Path) -> None:
    cached = CachedEncoder(FakeEncoder(), file)
    fresh = cached.encode_document([Content.of("a")])
    with sqlite3.connect(tmp_path / "cache" / "v1.sqlite") as other:
        (data,) = other.execute("SELECT data FROM vectors").fetchone()
        other.execute("UPDATE vectors SET data = ?", (data[:-1] + bytes([data[-1] ^ 1]),))
    other.close()
    np.testing.assert_array_equal(cached.encode_document([Content.of("a")]), fresh)
    assert cached.misses == 2
    np.testing.assert_array_equal(cached.encode_document([Content.of("a")]), fresh)
    assert cached.hits == 1


def test_a_file_that_is_no_database_is_moved_aside(tmp_path: Path) -> None:
    path = tmp_path / "v1.sqlite"
    path.write_bytes(b"this is no database" * 500)
    file = CacheFile(path)
    file.put({b"a": np.ones(3, np.float32)})
    assert len(file) == 1
    assert (tmp_path / "v1.sqlite.damaged").exists()
    file.close()


def test_a_folder_that_refuses_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "in the way").write_text("a file")
    file = CacheFile(tmp_path / "in the way" / "v1.sqlite")
    assert not file.usable
    cached = CachedEncoder(FakeEncoder(), file)
    assert cached.encode_document([Content.of("a")]).shape == (1, 16)


def test_the_size_is_bounded_and_the_unused_go_first(tmp_path: Path) -> None:
    file = CacheFile(tmp_path / "v1.sqlite", max_bytes=400_000)
    vector = np.zeros(384, np.float32)
    for number in range(40):
        file.put({f"{number}-{place}".encode(): vector for place in range(20)})
        with file._lock, file._database as database:  # type: ignore[union-attr]
            database.execute("UPDATE vectors SET used = used - 10")  # time goes by
    assert (tmp_path / "v1.sqlite").stat().st_size < 600_000
    assert 50 < len(file) < 260
    assert file.get([b"39-0"])
    assert not file.get([b"0-0"])
    file.close()


def _write(path: Path, start: int) -> None:
    file = CacheFile(path)
    for number in range(start, start + 30):
        file.put({f"{number}".encode(): np.full(8, number, np.float32)})
    file.close()


def test_several_processes_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "v1.sqlite"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write, args=(path, start)) for start in (0, 20, 40)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    file = CacheFile(path)
    assert len(file) == 70
    found = file.get([f"{number}".encode() for number in range(70)])
    assert all(vector[0] == int(key) for key, vector in found.items())
    file.close()
