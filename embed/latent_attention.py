"""NV-Embed's latent attention pooling (Lee et al. 2024, arXiv:2405.17428): token states in, one vector a sequence out.

Each token asks a trained dictionary of latents: the states are the queries of a cross attention, the latents its keys
and values. A gated feed-forward layer follows, and the mean over the tokens that are pooled. Unlike in the Perceiver,
which has the same parts, no token sees another here.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

__all__ = ["LatentAttention"]


class LatentAttention(nn.Module):
    """The pooling of NV-Embed-v1 and MM-Embed, with the names that their checkpoints give to its weights.

    Args:
        dim: of the states.
        latents: how many.
        heads: of the cross attention.
        head_dim: of each head; in the published models as large as `dim`.
        inner: width of the feed-forward layer, `4 * dim` in the published models.
    """

    def __init__(self, dim: int, *, latents: int, heads: int, head_dim: int, inner: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(latents, dim))
        self.cross_attend_blocks = nn.ModuleList([_Attend(dim, heads, head_dim), _FeedForward(dim, inner)])

    @classmethod
    def shaped_as(cls, weights: dict[str, torch.Tensor], *, heads: int) -> LatentAttention:
        """One that these weights fit into, in their precision, with the weights.

        Args:
            weights: by the names of the checkpoint, without a prefix.
            heads: of the cross attention, which the weights do not show.

        Raises:
            KeyError: a weight that shows a size is missing.
            RuntimeError: weights are missing, unknown or of sizes that do not fit together.
        """
        latents, dim = weights["latents"].shape
        width = len(weights["cross_attend_blocks.0.fn.to_q.weight"])
        inner = weights["cross_attend_blocks.1.fn.net.2.weight"].shape[1]
        with torch.device("meta"):
            made = cls(dim, latents=latents, heads=heads, head_dim=width // heads, inner=inner)
        made.load_state_dict(weights, assign=True)
        return made

    def tokens(self, states: torch.Tensor) -> torch.Tensor:
        """Each token's state after both blocks: (n, length, dim) -> the same shape."""
        attend, feed_forward = self.cross_attend_blocks
        states = attend(states, self.latents) + states
        refined: torch.Tensor = feed_forward(states) + states
        return refined

    def forward(self, states: torch.Tensor, pooled: torch.Tensor) -> torch.Tensor:
        """L2-normalised mean over the pooled tokens: (n, dim).

        Args:
            states: (n, length, dim), of the language model after its last norm.
            pooled: (n, length), 1 where a token counts: neither padding nor instruction. A row of zeros gives NaN.
        """
        weights = pooled.to(states.dtype).unsqueeze(-1)
        mean = (self.tokens(states) * weights).sum(1) / weights.sum(1)
        return functional.normalize(mean, dim=-1)


class _Attend(nn.Module):
    """Layer norms of both sides, then cross attention to the latents."""

    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.norm_context = nn.LayerNorm(dim)
        self.fn = _CrossAttention(dim, heads, head_dim)

    def forward(self, states: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        attended: torch.Tensor = self.fn(self.norm(states), self.norm_context(latents))
        return attended


class _CrossAttention(nn.Module):
    def __init__(self, dim: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, heads * head_dim, bias=False)
        self.to_kv = nn.Linear(dim, 2 * heads * head_dim, bias=False)
        self.to_out = nn.Linear(heads * head_dim, dim, bias=False)

    def forward(self, states: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        keys, values = self.to_kv(latents).chunk(2, dim=-1)
        count = len(states)
        # The latents are the same for every sequence, so their keys and values are made once.
        attended = functional.scaled_dot_product_attention(
            self._split(self.to_q(states)),
            self._split(keys[None]).expand(count, -1, -1, -1),
            self._split(values[None]).expand(count, -1, -1, -1),
        )
        out: torch.Tensor = self.to_out(attended.transpose(1, 2).flatten(2))
        return out

    def _split(self, wide: torch.Tensor) -> torch.Tensor:
        """(n, length, heads * head_dim) -> (n, heads, length, head_dim)."""
        return wide.reshape(*wide.shape[:-1], self.heads, -1).transpose(1, 2)


class _FeedForward(nn.Module):
    """A layer norm, then two linear layers with a gate between them."""

    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fn = nn.ModuleDict({"net": nn.Sequential(nn.Linear(dim, 2 * inner), _GatedGelu(), nn.Linear(inner, dim))})

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fn["net"](self.norm(states))
        return out


class _GatedGelu(nn.Module):
    """GEGLU (Shazeer 2020, arXiv:2002.05202): the first half, gated by the GELU of the second."""

    def forward(self, wide: torch.Tensor) -> torch.Tensor:
        first, gate = wide.chunk(2, dim=-1)
        return first * functional.gelu(gate)
