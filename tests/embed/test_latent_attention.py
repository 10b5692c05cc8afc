"""Latent attention pooling against what the original module gave, and what would be wrong."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from mmseek.embed import latent_attention
from mmseek.embed.latent_attention import LatentAttention

ORACLE = Path(__file__).resolve().parents[3] / "shared" / "oracles" / "nv_embed_latent_attention"
PREFIX = "latent_attention_model."

needs_oracle = pytest.mark.skipif(not ORACLE.is_dir(), reason="../shared/oracles is not on this machine")


@pytest.fixture
def pooling() -> LatentAttention:
    config = json.loads((ORACLE / "checkpoint" / "config.json").read_text())
    weights = load_file(ORACLE / "checkpoint" / "model.safetensors")
    named = {name.removeprefix(PREFIX): weight for name, weight in weights.items()}
    return LatentAttention.shaped_as(named, heads=config["num_cross_heads"])


def inputs() -> dict[str, torch.Tensor]:
    with np.load(ORACLE / "inputs.npz", allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in ("hidden", "attention_mask", "pool_mask")}


def expected(name: str = "expected.npy") -> np.ndarray:
    wanted: np.ndarray = np.load(ORACLE / name, allow_pickle=False)
    return wanted


def difference(pooling: LatentAttention, hidden: torch.Tensor, mask: torch.Tensor) -> np.ndarray:
    """The largest of each row."""
    with torch.no_grad():
        largest: np.ndarray = np.abs(pooling(hidden, mask).numpy() - expected()).max(1)
    return largest


@needs_oracle
def test_equal_to_the_original(pooling: LatentAttention) -> None:
    given = inputs()
    assert difference(pooling, given["hidden"], given["pool_mask"]).max() < 1e-5
    with torch.no_grad():
        tokens = pooling.tokens(given["hidden"]).numpy()
    wanted = expected("expected_tokens.npy")  # not normalised: values of up to 10 and more
    assert np.abs(tokens - wanted).max() < 1e-5 * np.abs(wanted).max()


@needs_oracle
def test_a_sequence_has_the_same_vector_alone(pooling: LatentAttention) -> None:
    given = inputs()
    with torch.no_grad():
        for row, wanted in enumerate(expected()):
            length = int(given["attention_mask"][row].sum())
            alone = pooling(given["hidden"][row : row + 1, :length], given["pool_mask"][row : row + 1, :length])
            np.testing.assert_allclose(alone[0].numpy(), wanted, atol=1e-5)


@needs_oracle
def test_what_would_be_wrong_is_seen(pooling: LatentAttention, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, attention, pooled = (inputs()[name] for name in ("hidden", "attention_mask", "pool_mask"))
    with_instruction = attention.sum(1) > pooled.sum(1)
    assert (difference(pooling, hidden, attention)[with_instruction.numpy()] > 0.1).all()  # instruction tokens pooled

    def swapped(self: nn.Module, wide: torch.Tensor) -> torch.Tensor:
        gate, first = wide.chunk(2, dim=-1)
        return first * nn.functional.gelu(gate)

    with monkeypatch.context() as patch:
        patch.setattr(latent_attention._GatedGelu, "forward", swapped)
        assert (difference(pooling, hidden, pooled) > 0.1).all()
    pooling.cross_attend_blocks[0].norm_context = nn.Identity()
    assert (difference(pooling, hidden, pooled) > 0.1).all()


def test_its_own_way_equals_a_plain_one() -> None:
    """Written out with one matrix a head, for a module of random weights."""
    torch.manual_seed(0)
    dim, heads, head_dim = 6, 3, 5
    pooling = LatentAttention(dim, latents=4, heads=heads, head_dim=head_dim, inner=7)
    with torch.no_grad():
        for weight in pooling.parameters():
            weight.normal_(0, 0.5)
        states = torch.randn(1, 9, dim)
        weights = pooling.state_dict()

        def norm(values: torch.Tensor, name: str) -> torch.Tensor:
            spread = (values - values.mean(-1, keepdim=True)) / (
                values.var(-1, correction=0, keepdim=True) + 1e-5
            ).sqrt()
            return spread * weights[f"{name}.weight"] + weights[f"{name}.bias"]

        block = "cross_attend_blocks.0"
        asked = norm(states[0], f"{block}.norm") @ weights[f"{block}.fn.to_q.weight"].T
        stored = norm(weights["latents"], f"{block}.norm_context") @ weights[f"{block}.fn.to_kv.weight"].T
        out = []
        for head in range(heads):
            place = slice(head * head_dim, (head + 1) * head_dim)
            keys, values = stored[:, place], stored[:, heads * head_dim :][:, place]
            out.append(((asked[:, place] @ keys.T) / head_dim**0.5).softmax(-1) @ values)
        after = states[0] + torch.cat(out, -1) @ weights[f"{block}.fn.to_out.weight"].T
        block = "cross_attend_blocks.1"
        wide = norm(after, f"{block}.norm") @ weights[f"{block}.fn.net.0.weight"].T + weights[f"{block}.fn.net.0.bias"]
        gated = wide[:, :7] * nn.functional.gelu(wide[:, 7:])
        after = after + gated @ weights[f"{block}.fn.net.2.weight"].T + weights[f"{block}.fn.net.2.bias"]
        mean = after[2:8].mean(0)
        mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1, 0]])
        np.testing.assert_allclose(pooling(states, mask)[0].numpy(), (mean / mean.norm()).numpy(), atol=1e-5)
