"""What is kept for reuse stays within its bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmseek._types import Content, Image
from mmseek.rerank import load_reranker
from mmseek.rerank.mllm.caches import ByteCache
from mmseek.rerank.mllm.engine import Memory, MllmReranker

Actions = st.lists(st.tuples(st.sampled_from("pg"), st.integers(0, 6), st.integers(0, 12)), max_size=60)


@given(Actions, st.integers(0, 20))
def test_as_a_plain_list_would(actions: list[tuple[str, int, int]], most: int) -> None:
    cache: ByteCache[int] = ByteCache(most)
    model: list[tuple[bytes, int]] = []  # least recently used first
    for action, name, size in actions:
        key = bytes([name])
        held = [entry for entry in model if entry[0] == key]
        if action == "g":
            assert cache.get(key) == (held[0][1] if held else None)
            model = [entry for entry in model if entry[0] != key] + held
        elif size <= most:
            cache.put(key, size, size)
            model = [*(entry for entry in model if entry[0] != key), (key, size)]
            while sum(entry[1] for entry in model) > most:
                model.pop(0)
        else:
            cache.put(key, size, size)
        assert cache.bytes == sum(entry[1] for entry in model) <= most
        assert len(cache) == len(model)


@pytest.fixture
def counted(tiny_vlm: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> tuple[MllmReranker, dict[str, int]]:
    """A reranker, and how many pictures and tokens its model has read."""
    reranker = load_reranker(f"qwen3-vl-reranker:{tiny_vlm('qwen3_vl')}", device="cpu")
    assert isinstance(reranker, MllmReranker)
    read = {"pictures": 0, "tokens": 0}
    see, states = reranker.backbone.see, reranker.backbone.read

    def seeing(pictures: Any) -> Any:
        read["pictures"] += len(pictures)
        return see(pictures)

    def reading(**inputs: Any) -> Any:
        read["tokens"] += inputs["inputs_embeds"].shape[:2].numel()
        return states(**inputs)

    monkeypatch.setattr(reranker.backbone, "see", seeing)
    monkeypatch.setattr(reranker.backbone, "read", reading)
    return reranker, read


def test_pictures_are_seen_once_and_the_query_is_read_once(
    counted: tuple[MllmReranker, dict[str, int]], draw: Callable[[int, int], Image]
) -> None:
    reranker, read = counted
    query = Content.of(draw(128, 128), "is it a boat?")
    documents = [Content.of(draw(64, 60 + n), "one") for n in range(8)]
    first = reranker.score(query, documents)
    assert read["pictures"] == 9
    clever = read["tokens"]
    again = reranker.score(query, documents[::-1])[::-1]
    assert read["pictures"] == 9, "all of them were seen before"
    np.testing.assert_allclose(again, first, atol=1e-5)
    plain = type(reranker)(reranker.backbone, reranker.head, identity=reranker.identity, memory=Memory(0, 0, 0))
    read["tokens"] = read["pictures"] = 0
    np.testing.assert_allclose(plain.score(query, documents), first, atol=1e-5)
    assert read["tokens"] > 3 * clever
    assert read["pictures"] > 9, "the query's picture is seen again in every batch"


def test_memory_that_runs_out_halves_the_batch(
    counted: tuple[MllmReranker, dict[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    reranker, _ = counted
    documents = [Content.of(f"a red boat {n}") for n in range(9)]
    expected = reranker.score(Content.of("the sea"), documents)
    states = reranker.backbone.read

    def small(**inputs: Any) -> Any:
        if len(inputs["inputs_embeds"]) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 1 GiB")
        return states(**inputs)

    monkeypatch.setattr(reranker.backbone, "read", small)
    np.testing.assert_allclose(reranker.score(Content.of("the sea"), documents), expected, atol=1e-5)
