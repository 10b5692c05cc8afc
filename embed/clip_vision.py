"""The picture tower of a CLIP with less work for the same vectors: transformers' modules, run in another way.

Only the state of the first token of the last layer is projected, so in that layer only this token asks: its keys and
values need all tokens, the rest of it one in fifty (of ViT-B/32). The activation is computed in place, its factor
multiplied into the products by BLAS, and sums are added there too. Vectors differ in the last bits of float32.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch.nn import functional as F  # noqa: N812 - torch's own convention

__all__ = ["can_pool", "pooled"]

# x * sigmoid(1.702 x), OpenAI's approximation of GELU, is silu(1.702 x) / 1.702.
_SLOPE: Final = 1.702


def can_pool(vision: Any) -> bool:
    """Whether `pooled` gives what the tower itself would: no gradients, no adapters, the usual attention."""
    return (
        not torch.is_grad_enabled()
        and vision.config._attn_implementation == "sdpa"  # noqa: SLF001 - it has no other name
        and all(
            type(module) is torch.nn.Linear
            for layer in vision.encoder.layers
            for module in (layer.mlp.fc1, layer.mlp.fc2, *_projections(layer.self_attn), layer.self_attn.out_proj)
        )
    )


def pooled(vision: Any, pixels: torch.Tensor) -> torch.Tensor:
    """The pooled output (n, width) of transformers' `CLIPVisionModel` for pixels (n, 3, S, S)."""
    states = vision.pre_layrnorm(_embedded(vision.embeddings, pixels))
    *layers, last = vision.encoder.layers
    for layer in layers:
        states = _layer(layer, states, states)
    first: torch.Tensor = vision.post_layernorm(_layer(last, states[:, :1], states))[:, 0]
    return first


def _embedded(embeddings: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Patches (n, tokens, width) with the class token before them and their places added."""
    count, side = len(pixels), embeddings.patch_size
    across = pixels.shape[-1] // side
    patches = pixels[:, :, : across * side, : across * side].reshape(count, 3, across, side, across, side)
    patches = patches.permute(0, 2, 4, 1, 3, 5).reshape(count, across * across, -1)
    kernel = embeddings.patch_embedding
    states = F.linear(patches, kernel.weight.flatten(1), kernel.bias)
    first = embeddings.class_embedding.expand(count, 1, -1)
    return torch.cat([first, states], 1).add_(embeddings.position_embedding.weight)


def _layer(layer: Any, asking: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """One layer for the tokens (n, some, width) that ask, which may be the first of all of them (n, tokens, width)."""
    attention, mlp = layer.self_attn, layer.mlp
    count, some, width = asking.shape
    normed = layer.layer_norm1(states)
    heads = (count, -1, attention.num_heads, attention.head_dim)
    sources = (normed[:, :some], normed, normed)
    query, key, value = (
        project(source).view(heads).transpose(1, 2)
        for project, source in zip(_projections(attention), sources, strict=True)
    )
    attended = F.scaled_dot_product_attention(query, key, value, scale=attention.scale).transpose(1, 2)
    rows = _added(asking.reshape(-1, width), attended.reshape(-1, width), attention.out_proj)
    normed = layer.layer_norm2(rows)
    if layer.mlp.config.hidden_act == "quick_gelu":
        hidden = torch.addmm(mlp.fc1.bias * _SLOPE, normed, mlp.fc1.weight.T, alpha=_SLOPE)
        rows = _added(rows, F.silu(hidden, inplace=True), mlp.fc2, 1 / _SLOPE)
    else:
        rows = _added(rows, mlp.activation_fn(mlp.fc1(normed)), mlp.fc2)
    return rows.view(count, some, width)


def _projections(attention: Any) -> tuple[Any, Any, Any]:
    return attention.q_proj, attention.k_proj, attention.v_proj


def _added(rows: torch.Tensor, states: torch.Tensor, linear: Any, factor: float = 1.0) -> torch.Tensor:
    """Rows plus a linear layer of the states times a factor."""
    return torch.addmm(rows, states, linear.weight.T, alpha=factor).add_(linear.bias)
