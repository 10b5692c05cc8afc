"""The linear layer that makes the short vectors of late interaction from a model's states."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmseek.errors import ModelError
from mmseek.models.checkpoints import weight_files

if TYPE_CHECKING:
    import torch

__all__ = ["Projection", "load_projection"]

# As ColPali's authors name it, transformers, and jina-embeddings-v4; with a prefix, where a LoRA was merged.
_NAMES: Final = ("custom_text_proj", "embedding_proj_layer", "multi_vector_projector")


class Projection:
    """States (n, d) -> vectors (n, dim), float32, L2-normalised.

    Args:
        layer: linear, with a bias.
    """

    def __init__(self, layer: torch.nn.Module) -> None:
        self.layer = layer

    @property
    def weight(self) -> torch.Tensor:
        weight: torch.Tensor = self.layer.get_parameter("weight")
        return weight

    @property
    def dim(self) -> int:
        return len(self.weight)

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        import torch

        vectors: torch.Tensor = self.layer(states.to(self.weight.dtype))
        return torch.nn.functional.normalize(vectors.float(), dim=-1)


def load_projection(folder: Path, *, like: torch.Tensor, width: int) -> Projection:
    """Read it from a checkpoint's weights.

    Args:
        folder: of the checkpoint.
        like: a tensor of the device and the precision that are wanted.
        width: of the states.

    Raises:
        ModelError: it is not there, not readable, or of another model.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    found = {}
    for path in weight_files(folder):
        try:
            with safe_open(path, framework="pt") as weights:
                for name in list(weights.keys()):
                    layer, _, kind = name.rpartition(".")
                    if layer.rpartition(".")[2] in _NAMES:
                        found[kind] = weights.get_tensor(name).to(like)
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path} is not a safetensors file that can be read: get the checkpoint again") from error
    if set(found) != {"weight", "bias"} or found["weight"].shape != (len(found["bias"]), width):
        raise ModelError(
            f"{folder} has no layer {_NAMES[0]} or {_NAMES[2]} from {width} dimensions, which makes a vector of each "
            "token: give a whole checkpoint of this family, not its base model"
        )
    layer = torch.nn.Linear(width, len(found["bias"]))
    layer.weight, layer.bias = (torch.nn.Parameter(found[name], requires_grad=False) for name in ("weight", "bias"))
    return Projection(layer)
