from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812

from mmseek.models import packed_linear
from mmseek.models.packed_linear import PackedLinear, in_blocks, may_pack


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 8, 9])
def test_laid_out_weights_change_nothing(rows: int, bias: bool) -> None:
    if not may_pack("cpu", 100):
        pytest.skip("this torch has no MKL that keeps weights")
    generator = torch.Generator().manual_seed(0)
    weight, added, x = (torch.randn(*shape, generator=generator) for shape in ((12, 20), (12,), (rows, 20)))
    linear = PackedLinear(weight, added if bias else None, 8)
    torch.testing.assert_close(linear(x), F.linear(x, weight, added if bias else None), atol=1e-5, rtol=0)
    # Of the one number of rows alone is anything kept.
    assert (linear._laid_out is not None) == (rows == 8)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(0, 12))
def test_blocks_are_what_the_whole_is(rows: int, size: int) -> None:
    one, two = torch.arange(rows * 2.0).view(rows, 2), torch.arange(rows).float()[:, None]
    seen: list[int] = []

    def step(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        seen.append(len(left))
        return left * right

    assert torch.equal(in_blocks(step, size, one, two), one * two)
    assert sum(seen) == rows
    assert size == 0 or max(seen) <= size


def test_where_weights_are_not_laid_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not may_pack("cuda:0", 100)
    monkeypatch.setattr(packed_linear, "memory_bytes", lambda _: 3200)
    assert not may_pack("cpu", 101)
    monkeypatch.setattr(packed_linear, "_OPERATIONS", ("a name that torch has given up",))
    assert not may_pack("cpu", 100)
