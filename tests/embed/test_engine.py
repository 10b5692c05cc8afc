from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmseek import Content, Encoded, EncodeRequest
from mmseek.embed.batching import Budget
from mmseek.embed.engine import Engine, EngineOptions, Unit
from mmseek.errors import EncodeError, InputError, MmseekError

if TYPE_CHECKING:
    from mmseek._types import FloatArray

OPTIONS = EngineOptions(window=8, workers=2)


class Letters:
    """A recipe whose vectors count letters; words that are named in it fail in the way they name."""

    def __init__(self, budget: Budget | None = None, memory: int = 10**9) -> None:
        self.budgets = {"text": budget or Budget(20), "title": Budget(20)}
        self.memory = memory
        self.batches: list[list[str]] = []

    def prepare(self, request: EncodeRequest) -> Sequence[Unit]:
        text = request.content.text
        if "broken" in text:
            raise InputError("broken")
        if "surprise" in text:
            raise KeyError("surprise")
        kinds = ("title", "text") if text.istitle() else ("text",)
        return [Unit(kind, text, cost=len(text) or 1, key=text) for kind in kinds]

    def forward(self, kind: str, payloads: Sequence[Any]) -> FloatArray:
        self.batches.append(list(payloads))
        if sum(map(len, payloads)) > self.memory:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        if any("poison" in text for text in payloads):
            raise ValueError("poison")
        return np.stack([self.vector(text) for text in payloads])

    @staticmethod
    def vector(text: str) -> FloatArray:
        if "nan" in text:
            return np.full(27, np.nan, dtype=np.float32)
        if "zero" in text:
            return np.zeros(27, dtype=np.float32)
        return np.array([1, *(text.count(chr(letter)) for letter in range(97, 123))], dtype=np.float32)

    def combine(self, request: EncodeRequest, units: Sequence[Unit], vectors: Sequence[FloatArray]) -> FloatArray:
        return np.sum(vectors, axis=0)  # type: ignore[no-any-return]


def requests(texts: Iterable[str]) -> Iterator[EncodeRequest]:
    return (EncodeRequest(Content.of(text)) for text in texts)


def run(recipe: Letters, texts: Sequence[str], options: EngineOptions = OPTIONS) -> list[Encoded]:
    return list(Engine(recipe, options).stream(requests(texts)))


def unit_length(text: str) -> FloatArray:
    vector = Letters.vector(text)
    return (vector / np.linalg.norm(vector)).astype(np.float32)  # type: ignore[no-any-return]


WORDS = st.text("abc", max_size=12)


@settings(max_examples=40)
@given(st.lists(WORDS, max_size=40), st.integers(1, 60), st.booleans(), st.integers(1, 9), st.integers(1, 3))
def test_any_batching_gives_each_its_own_vector(
    texts: list[str], cost: int, packed: bool, window: int, lanes: int
) -> None:
    recipe = Letters(Budget(cost, packed=packed))
    results = run(recipe, texts, EngineOptions(window=window, lanes=lanes))
    assert len(results) == len(texts)
    for text, result in zip(texts, results, strict=True):
        assert result.error is None
        np.testing.assert_allclose(result.vector, unit_length(text), atol=1e-6)
    for batch in recipe.batches:
        assert len(batch) == 1 or Budget(cost, packed=packed).of([len(text) or 1 for text in batch]) <= cost


def test_duplicates_of_a_window_are_encoded_once() -> None:
    recipe = Letters()
    results = run(recipe, ["a", "b", "a", "a", "b", "a"])
    assert sorted(itertools.chain(*recipe.batches)) == ["a", "b"]
    assert [np.argmax(result.vector[1:]) for result in results if result.vector is not None] == [0, 1, 0, 0, 1, 0]


def test_kinds_do_not_share_a_batch_and_are_combined() -> None:
    recipe = Letters()
    (result,) = run(recipe, ["Abc"])
    assert recipe.batches == [["Abc"], ["Abc"]]
    np.testing.assert_allclose(result.vector, unit_length("Abc"), atol=1e-6)


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize(
    ("bad", "error", "words"),
    [
        ("broken", InputError, "broken"),
        ("surprise", EncodeError, "could not be prepared .KeyError"),
        ("poison", EncodeError, "made the model fail .ValueError: poison"),
        ("nan", EncodeError, "not finite"),
        ("zero", EncodeError, "zero"),
    ],
)
def test_a_bad_item_fails_alone(bad: str, error: type[MmseekError], words: str, lanes: int) -> None:
    texts = ["a", "b", bad, "c", bad + "x", "d"] * 4
    results = run(Letters(), texts, EngineOptions(window=8, lanes=lanes))
    for text, result in zip(texts, results, strict=True):
        if bad in text:
            assert type(result.error) is error
            assert result.vector is None
            with pytest.raises(error, match=words):
                raise result.error
        else:
            assert result.error is None
            np.testing.assert_allclose(result.vector, unit_length(text), atol=1e-6)


def test_out_of_memory_halves_and_remembers() -> None:
    recipe = Letters(Budget(64, packed=True), memory=20)
    texts = [letter * 8 for letter in "abcdefghijklmnop"]
    results = run(recipe, texts)
    assert all(result.error is None for result in results)
    sizes = [sum(map(len, batch)) for batch in recipe.batches]
    assert sizes[:3] == [64, 32, 16]
    assert all(size <= 16 for size in sizes[3:]), "the second window must not try what did not fit before"


def test_what_fits_at_no_size_fails_alone() -> None:
    results = run(Letters(Budget(64), memory=20), ["a", "b" * 30, "c"])
    assert [result.error is None for result in results] == [True, False, True]
    assert "does not fit into memory" in str(results[1].error)


def test_reads_ahead_only_so_far() -> None:
    read = 0

    def endless() -> Iterator[EncodeRequest]:
        nonlocal read
        for read in itertools.count(1):
            yield EncodeRequest(Content.of(f"{read}"))

    stream = Engine(Letters(), OPTIONS).stream(endless())
    for taken in range(1, 50):
        next(stream)
        assert read <= taken + 3 * OPTIONS.window
    stream.close()  # type: ignore[attr-defined]


def test_windows_of_large_inputs_are_small_but_never_of_a_few_alone() -> None:
    """What takes long to read is handed to the model early; a handful stays together and has all cores."""
    engine = Engine(Letters(), EngineOptions(window=1000, window_bytes=64_000))
    workers = ThreadPoolExecutor(1)
    large = (EncodeRequest(Content.of("a" * 1000)) for _ in range(30))
    assert [len(window.requests) for window in engine._read(large, workers)] == [8, 8, 8, 6]
    small = (EncodeRequest(Content.of("a" * 100)) for _ in range(150))
    assert [len(window.requests) for window in engine._read(small, workers)] == [20, 80, 50]
    workers.shutdown()


def test_large_inputs_end_a_window_early() -> None:
    read = 0

    def large() -> Iterator[EncodeRequest]:
        nonlocal read
        for read in range(1, 50):  # noqa: B007
            yield EncodeRequest(Content.of("a" * 1000))

    stream = Engine(Letters(), EngineOptions(window=1000, window_bytes=2000)).stream(large())
    next(stream)
    assert read == 6
    stream.close()  # type: ignore[attr-defined]


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("mmseek-")}


@pytest.mark.parametrize("lanes", [1, 2])
def test_closing_early_leaves_no_thread(lanes: int) -> None:
    before = _threads()
    stream = Engine(Letters(), EngineOptions(window=4, lanes=lanes)).stream(requests(map(str, itertools.count())))
    next(stream)
    assert _threads() - before
    stream.close()  # type: ignore[attr-defined]
    assert not _threads() - before


def test_an_error_of_the_input_comes_after_what_was_read() -> None:
    def source() -> Iterator[EncodeRequest]:
        yield from requests("abcdefghijk")
        raise OSError("the disk is gone")

    before, got = _threads(), []
    with pytest.raises(OSError, match="the disk is gone"):
        got.extend(_each(Engine(Letters(), OPTIONS).stream(source()), got))
    assert len(got) == 11
    assert not _threads() - before


def _each(stream: Iterator[Encoded], into: list[Encoded]) -> list[Encoded]:
    for result in stream:
        into.append(result)
    return []


def test_a_short_stream_keeps_every_lane_busy_and_a_single_item_has_all_cores() -> None:
    recipe = Letters(Budget(100, packed=True))
    names: list[str] = []

    def forward(kind: str, payloads: Sequence[Any]) -> FloatArray:
        names.append(threading.current_thread().name)
        return Letters.forward(recipe, kind, payloads)

    recipe.forward = forward  # type: ignore[method-assign]
    run(recipe, list("abcd"), EngineOptions(lanes=2))
    assert sorted(map(len, recipe.batches)) == [2, 2]
    assert all(name.startswith("mmseek-model") for name in names)
    names.clear()
    run(recipe, ["a"], EngineOptions(lanes=2))
    assert names == [threading.current_thread().name]


def test_the_last_batches_of_a_stream_are_shared_evenly() -> None:
    recipe = Letters(Budget(100, packed=True))
    run(recipe, list("abcdefghijkl"), EngineOptions(window=8, lanes=2))
    assert sorted(map(len, recipe.batches)) == [2, 2, 8]


def test_nothing_gives_nothing() -> None:
    assert run(Letters(), []) == []


def test_lanes_leave_torch_its_threads() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        seen: list[int] = []

        class Watching(Letters):
            def forward(self, kind: str, payloads: Sequence[Any]) -> FloatArray:
                seen.append(torch.get_num_threads())
                return super().forward(kind, payloads)

        run(Watching(Budget(1)), list("abcdefgh"), EngineOptions(window=4, lanes=2))
        assert set(seen) == {1}
        later: list[int] = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert later == [2]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
