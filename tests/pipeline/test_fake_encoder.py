"""The double keeps the promises of an encoder."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from mmseek import Content, EncodeRequest, Image
from mmseek.errors import EncodeError, InputError, MediaError
from mmseek.protocols import Encoder
from mmseek.testing import FakeEncoder


def test_vectors_are_normalised_repeatable_and_apart(encoder: FakeEncoder, png: Callable[[str], bytes]) -> None:
    contents = [Content.of("a"), Content.of("b"), Content((Image(data=png("red")),)), Content.of("a", "b")]

    vectors = encoder.encode_document(contents)

    assert isinstance(encoder, Encoder)
    assert vectors.dtype == np.float32
    assert vectors.shape == (4, 16)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(vectors, FakeEncoder().encode_query(contents, "an instruction"))
    assert len({vector.tobytes() for vector in vectors}) == 4
    assert encoder.calls == 4
    assert vectors[0, 0] == pytest.approx(-0.26822096)  # the same in every process and release


def test_stream_equals_encode_and_fails_alone() -> None:
    encoder = FakeEncoder(fail_on="CURSED", window=3)
    contents = [Content.of(str(number)) for number in range(10)]
    contents[4:4] = [Content.of("CURSED"), Content(()), Content((Image(data=b"no picture"),))]

    outcomes = list(encoder.stream(EncodeRequest(content) for content in contents))

    assert [type(outcome.error) for outcome in outcomes[4:7]] == [EncodeError, InputError, MediaError]
    good = [outcome.vector for outcome in outcomes if outcome.vector is not None]
    np.testing.assert_array_equal(np.stack(good), encoder.encode_document(contents[:4] + contents[7:]))
    with pytest.raises(EncodeError, match="item 1: the fake encoder was told to fail on 'CURSED'"):
        encoder.encode_document(contents[3:5])


def test_stream_holds_no_more_than_its_window() -> None:
    pulled = 0

    def requests() -> Iterator[EncodeRequest]:
        nonlocal pulled
        for number in range(100):
            pulled += 1
            yield EncodeRequest(Content.of(str(number)))

    for answered, _ in enumerate(FakeEncoder(window=4).stream(requests()), start=1):
        assert pulled - answered < 4


def test_fingerprint_knows_spec_and_dimension() -> None:
    fingerprints = {FakeEncoder().identity.fingerprint, FakeEncoder(8).identity.fingerprint}

    assert len(fingerprints | {FakeEncoder(spec="other").identity.fingerprint}) == 3
    assert FakeEncoder().identity == FakeEncoder().identity
