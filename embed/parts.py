"""Models that are put together from modules of transformers: their weights by name, and sizes that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch

from mmseek.errors import ModelError

__all__ = ["HEAD", "Weights", "clip_vision_sizes", "fill", "layers_of", "under"]

# Both OpenAI's CLIP and BERT have attention heads of this size.
HEAD: Final = 64

Weights: TypeAlias = dict[str, torch.Tensor]


def under(weights: Mapping[str, torch.Tensor], *beginnings: str) -> Weights:
    """The weights whose names begin so, without the beginning; of several, the first that any have."""
    for beginning in beginnings:
        found = {name.removeprefix(beginning): value for name, value in weights.items() if name.startswith(beginning)}
        if found:
            return found
    return {}


def fill(module: torch.nn.Module, weights: Weights, name: str, folder: Path) -> None:
    """Put weights into a module; those that it has no place for are left.

    Args:
        module: of transformers or torch.
        weights: by their names in the module.
        name: what stands before these in the checkpoint, for the error.
        folder: of the checkpoint, for the error.

    Raises:
        ModelError: some are missing.
    """
    missing, _ = module.load_state_dict(weights, strict=False)
    if missing:
        raise ModelError(f"{folder} lacks {len(missing)} of the weights, {name}{missing[0]} among them: get it again")


def layers_of(weights: Weights, stem: str) -> int:
    """How many numbered layers stand under a name."""
    return len({name.split(".")[len(stem.split("."))] for name in weights if name.startswith(f"{stem}.")})


def clip_vision_sizes(weights: Weights) -> dict[str, Any]:
    """What `CLIPVisionConfig` needs to know, from the weights of a `CLIPVisionModel`."""
    kernel = weights["embeddings.patch_embedding.weight"]
    patches = len(weights["embeddings.position_embedding.weight"]) - 1
    return {
        "hidden_size": len(kernel),
        "patch_size": kernel.shape[-1],
        "image_size": round(patches**0.5) * kernel.shape[-1],
        "num_hidden_layers": layers_of(weights, "encoder.layers"),
        "num_attention_heads": len(kernel) // HEAD,
        "intermediate_size": len(weights["encoder.layers.0.mlp.fc1.weight"]),
    }
