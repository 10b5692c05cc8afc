"""Several copies of an encoder give what one gives, in order; precision is heeded or refused."""

import threading
from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from mmseek import Content, Encoded, EncodeRequest, load_encoder
from mmseek.embed.replicas import ReplicatedEncoder
from mmseek.errors import ConfigError, EncodeError, InputError, ModelError
from mmseek.testing import FakeEncoder


def requests(count: int) -> Iterator[EncodeRequest]:
    return (EncodeRequest(Content.of(f"text {number}")) for number in range(count))


@pytest.mark.parametrize("count", [0, 1, 7, 8, 100])
def test_the_same_as_one_in_order(count: int) -> None:
    together = ReplicatedEncoder([FakeEncoder(), FakeEncoder(), FakeEncoder()], segment=8)
    for ours, one in zip(together.stream(requests(count)), FakeEncoder().stream(requests(count)), strict=True):
        np.testing.assert_array_equal(ours.vector, one.vector)
    assert together.identity == FakeEncoder().identity


def test_all_work_at_once_and_a_bounded_number_is_read() -> None:
    meeting = threading.Barrier(2, timeout=120)

    class Waiting(FakeEncoder):
        def stream(self, requests: Iterable[EncodeRequest]) -> Iterator[Encoded]:
            meeting.wait()  # passes only when both replicas are here
            return super().stream(requests)

    read = 0

    def source() -> Iterator[EncodeRequest]:
        nonlocal read
        for request in requests(64):
            read += 1
            yield request

    stream = ReplicatedEncoder([Waiting(), Waiting()], segment=4).stream(source())
    next(stream)
    assert read <= 16
    assert sum(1 for _ in stream) == 63


def test_a_bad_item_fails_alone_and_the_sources_error_comes_last() -> None:
    def source() -> Iterator[EncodeRequest]:
        yield from requests(5)
        raise InputError("broken off")

    stream = ReplicatedEncoder([FakeEncoder(fail_on="3"), FakeEncoder(fail_on="3")], segment=2).stream(source())
    found = [next(stream) for _ in range(5)]
    assert [type(answer.error) for answer in found] == [type(None)] * 3 + [EncodeError, type(None)]
    with pytest.raises(InputError, match="broken off"):
        next(stream)


def test_stopping_early_ends_the_threads() -> None:
    stream = ReplicatedEncoder([FakeEncoder(), FakeEncoder()], segment=2).stream(requests(50))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("mmseek-replica")]


def test_what_are_no_copies_is_refused() -> None:
    with pytest.raises(ModelError, match="differ"):
        ReplicatedEncoder([FakeEncoder(), FakeEncoder(dim=8)])
    with pytest.raises(ConfigError, match="at least one"):
        ReplicatedEncoder([])


def test_two_replicas_of_mini_on_the_cpu() -> None:
    contents = [Content.of(f"number {number} of the texts") for number in range(20)]
    two = load_encoder("mini", device="cpu,cpu")
    assert isinstance(two, ReplicatedEncoder)
    one = load_encoder("mini", device="cpu")
    np.testing.assert_allclose(two.encode_document(contents), one.encode_document(contents), atol=1e-5)
    assert two.identity == one.identity


def test_a_precision_is_heeded_or_refused() -> None:
    with pytest.raises(ConfigError, match="mini runs in float32 only"):
        load_encoder("mini", device="cpu", precision="bfloat16")
    with pytest.raises(ConfigError, match="auto, float32, bfloat16, float16"):
        load_encoder("mini", device="cpu", precision="float8")
    assert load_encoder("mini", device="cpu", precision="float32").identity.dim == 384
