"""LoRA adapters (Hu et al. 2021, arXiv:2106.09685) added to the weights of the model that they were trained on, without
PEFT: in float32, whatever the weights are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmseek.errors import ModelError
from mmseek.models.adapters import CONFIG, WEIGHTS
from mmseek.models.checkpoints import json_object, pickle_refused

if TYPE_CHECKING:
    import torch

__all__ = ["add_pair", "merge", "read_adapter"]

# What would change the outputs and is not merged here.
_REFUSED: Final = ("use_dora", "modules_to_save", "layers_pattern", "rank_pattern", "alpha_pattern")


def read_adapter(folder: Path) -> tuple[Mapping[str, torch.Tensor], float]:
    """An adapter's weights by name, and what the product of each pair is multiplied by.

    Raises:
        ModelError: they cannot be read, or it is of a kind that is not merged here.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    scale = _scale(json_object(folder / CONFIG), folder)
    path = folder / WEIGHTS
    if not path.is_file():
        pickled = folder / "adapter_model.bin"
        raise pickle_refused(pickled) if pickled.is_file() else ModelError(f"{folder} has no {WEIGHTS}: get it again")
    try:
        return load_file(path), scale
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read as safetensors: get the adapter again") from error


def add_pair(weight: torch.Tensor, down: torch.Tensor | None, up: torch.Tensor | None, scale: float) -> bool:
    """Add `scale * up @ down` to a weight (out, in), in place; false, and nothing done, where they do not fit it."""
    import torch

    if down is None or up is None or weight.shape != (len(up), down.shape[1]) or up.shape[1] != len(down):
        return False
    with torch.no_grad():
        change = (up.float() @ down.float()) * scale
        weight.copy_(weight.float() + change.to(weight.device))
    return True


def merge(model: Any, folder: Path) -> None:
    """Add an adapter to a model's weights, in place: `W += B A * alpha / r`.

    Raises:
        ModelError: the adapter is of a kind that is not merged, is not whole, or does not fit the model.
    """
    halves, scale = read_adapter(folder)
    modules = dict(model.named_modules())
    names = sorted({name.rpartition(".lora_")[0] for name in halves if ".lora_" in name})
    if not names or len(halves) != 2 * len(names):
        raise ModelError(
            f"{folder / WEIGHTS} holds more, or other, weights than pairs of LoRA's: only plain LoRA is merged"
        )
    for name in names:
        down, up = (halves.get(f"{name}.lora_{half}.weight") for half in "AB")
        if not add_pair(_target(modules, name, folder).weight, down, up, scale):
            raise ModelError(f"{name} of {folder} does not fit its base model: check which model it was made for")


def _scale(config: Mapping[str, Any], folder: Path) -> float:
    """`alpha / r`, or `alpha / sqrt(r)` where the configuration says so.

    Raises:
        ModelError: the adapter is of another kind.
    """
    other = [key for key in _REFUSED if config.get(key)]
    if config.get("peft_type", "LORA") != "LORA" or config.get("bias", "none") != "none" or other:
        what = other[0] if other else str(config.get("peft_type"))
        raise ModelError(f"{folder} is an adapter with {what}, and only plain LoRA is merged: merge it with peft first")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or not isinstance(alpha, int | float) or rank < 1:
        raise ModelError(f"{folder / CONFIG} is not of a plain LoRA with r and lora_alpha: get it again")
    return float(alpha) / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _target(modules: Mapping[str, Any], name: str, folder: Path) -> Any:
    """The module that an adapter's name means: releases of transformers put other names before the same layers."""
    path = name.removeprefix("base_model.").removeprefix("model.")
    parts = path.split(".")
    for start in range(len(parts)):
        ending = ".".join(parts[start:])
        found = [module for key, module in modules.items() if key == ending or key.endswith(f".{ending}")]
        if len(found) == 1:
            return found[0]
        if found:
            break
    raise ModelError(f"{folder} changes {path}, which its base model does not have: check which model it was made for")
