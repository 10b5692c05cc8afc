"""Instructions by name, and that every encoder on the engine knows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmseek import Content, EncodeRequest, EncoderIdentity
from mmseek.embed.base import EngineEncoder
from mmseek.embed.batching import Budget
from mmseek.embed.engine import Unit
from mmseek.embed.instructions import INSTRUCTIONS, TASK_PREFIX, resolve_instruction
from mmseek.errors import SpecError

if TYPE_CHECKING:
    from mmseek._types import FloatArray

CIRR = "Retrieve a day-to-day image that aligns with the modification instructions of the provided image."


class Echo(EngineEncoder):
    """Keeps the instructions that it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str | None] = []
        self.combined: list[str | None] = []

    @property
    def identity(self) -> EncoderIdentity:
        return EncoderIdentity("echo", "0" * 64, 2)

    @property
    def budgets(self) -> Mapping[str, Budget]:
        return {"text": Budget(8)}

    def prepare(self, request: EncodeRequest) -> Sequence[Unit]:
        self.seen.append(request.instruction)
        return [Unit("text", None, 1, request.content.text)]

    def forward(self, kind: str, payloads: Sequence[Any]) -> FloatArray:
        return np.ones((len(payloads), 2), dtype=np.float32)

    def combine(self, request: EncodeRequest, units: Sequence[Unit], vectors: Sequence[FloatArray]) -> FloatArray:
        self.combined.append(request.instruction)
        return vectors[0]


def test_names() -> None:
    for name in ("task:cirr", "task:CIRR", "task: mbeir/cirr", "task:MBEIR/CIRR"):
        assert resolve_instruction(name) == CIRR
    mmeb = "Given an image, find a similar everyday image with the described changes: "
    assert resolve_instruction("task:mmeb/cirr") == mmeb
    assert resolve_instruction("task:wiki-ss-nq") == resolve_instruction("task:mmeb/wiki_ss_nq")
    assert resolve_instruction("task:mscoco_t2i") == "Find me an everyday image that matches the given caption."


def test_every_name_is_found_under_its_set() -> None:
    for name, sentence in INSTRUCTIONS.items():
        assert resolve_instruction(TASK_PREFIX + name) == sentence
        assert "/" in name or sentence in {INSTRUCTIONS.get(f"mbeir/{name}"), INSTRUCTIONS.get(f"mmeb/{name}")}


@given(st.text().filter(lambda text: not text.startswith(TASK_PREFIX)))
def test_other_text_stays(text: str) -> None:
    assert resolve_instruction(text) == text


def test_an_unknown_name_lists_the_near_ones() -> None:
    with pytest.raises(SpecError, match=r"'cir'.*task:cirr"):
        resolve_instruction("task:cir")
    with pytest.raises(SpecError, match=r"task:nights.*write the instruction out"):
        resolve_instruction("task:")


def test_encoders_are_shown_the_sentence() -> None:
    encoder = Echo()
    encoder.encode_query([Content.of("a")], "task:cirr")
    encoder.encode_query([Content.of("a")], "plain words")
    encoder.encode_query([Content.of("a")])
    encoder.encode_document([Content.of("a")])
    assert encoder.seen == encoder.combined == [CIRR, "plain words", None, None]


def test_an_unknown_name_for_an_encoder() -> None:
    encoder = Echo()
    with pytest.raises(SpecError, match=r"^no task"):
        encoder.encode_query([Content.of("a"), Content.of("b")], "task:cir")
    assert encoder.seen == []


def test_in_a_stream_an_unknown_name_fails_alone() -> None:
    encoder = Echo()
    names = ["task:cirr", "task:nothing_like_it", "task:mmeb/vqa"]
    found = list(encoder.stream([EncodeRequest(Content.of("a"), "query", name) for name in names]))
    assert [isinstance(encoded.error, SpecError) for encoded in found] == [False, True, False]
    assert set(encoder.seen) == {CIRR, "Represent the given image with the following question: "}
