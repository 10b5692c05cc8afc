"""The number types of written vectors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmseek.embed.output import DTYPES, quantised, restored, row_shape
from mmseek.errors import InputError


def unit(seed: int, rows: int, dim: int) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal((rows, dim))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


@given(st.integers(0, 99), st.integers(1, 70), st.sampled_from(sorted(DTYPES)))
def test_a_row_does_not_depend_on_its_neighbours(seed: int, dim: int, dtype: str) -> None:
    vectors = unit(seed, 3, dim)
    rows = quantised(vectors, dtype)  # type: ignore[arg-type]
    assert rows.dtype == np.dtype(DTYPES[dtype])
    assert rows.shape == (3, *row_shape(dim, dtype))  # type: ignore[arg-type]
    for vector, row in zip(vectors, rows, strict=True):
        np.testing.assert_array_equal(quantised(vector, dtype), row)  # type: ignore[arg-type]


@pytest.mark.parametrize(("dtype", "least"), [("float32", 1 - 1e-6), ("float16", 1 - 1e-6), ("int8", 0.9998)])
def test_the_direction_is_kept(dtype: str, least: float) -> None:
    vectors = unit(0, 50, 384)
    back = restored(quantised(vectors, dtype), dtype, 384)  # type: ignore[arg-type]
    assert (vectors * back).sum(1).min() > least
    np.testing.assert_allclose(np.linalg.norm(back, axis=1), 1, rtol=1e-6)


def test_int8_uses_its_whole_range_on_both_sides() -> None:
    np.testing.assert_array_equal(quantised(np.float32([[0.5, -0.5, 0.25]]), "int8"), [[127, -127, 64]])
    np.testing.assert_array_equal(quantised(np.zeros((1, 3), np.float32), "int8"), [[0, 0, 0]])


def test_binary_packs_signs_the_first_in_the_highest_bit() -> None:
    vector = np.float32([1, -1, 0, 2, -3, -4, -5, 6, 7])
    np.testing.assert_array_equal(quantised(vector, "binary"), [0b10010001, 0b10000000])
    signs = restored(quantised(vector, "binary"), "binary", 9) * 3
    np.testing.assert_allclose(signs, [1, -1, -1, 1, -1, -1, -1, 1, 1], rtol=1e-6)


def test_an_unknown_type_is_refused() -> None:
    for call in (lambda: quantised(unit(0, 1, 3), "int4"), lambda: restored(unit(0, 1, 3), "int4", 3)):
        with pytest.raises(InputError, match="float32, float16, int8, binary"):
            call()
