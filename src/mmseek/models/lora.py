"""LoRA adapters as PEFT saves them, added to the weights of the model that they were trained on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmseek.errors import ModelError
from mmseek.models.adapters import CONFIG, WEIGHTS
from mmseek.models.checkpoints import find_folder, json_object, pickle_refused
from mmseek.models.spec import Spec

if TYPE_CHECKING:
    import torch

__all__ = ["base_folder", "merge"]

# What would change the outputs and is not merged here.
_REFUSED: Final = ("modules_to_save", "layers_pattern", "rank_pattern", "alpha_pattern")


def base_folder(folder: Path, family: str) -> Path:
    """The folder of the model that an adapter belongs to, as its configuration names it.

    Raises:
        ModelError: it names none, or that is not here.
    """
    name = json_object(folder / CONFIG).get("base_model_name_or_path")
    if not isinstance(name, str) or not name:
        raise ModelError(f"{folder / CONFIG} names no base model: get the adapter again")
    beside = folder / name
    return beside if beside.is_dir() else find_folder(Spec(family, name))


def merge(model: Any, folder: Path) -> None:
    """Add an adapter to a model's weights, in place: `W += B A * alpha / r`.

    Raises:
        ModelError: the adapter is of a kind that is not merged, is not whole, or does not fit the model.
    """
    import torch
    from safetensors.torch import load_file

    config = json_object(folder / CONFIG)
    scale = _scale(config, folder)
    path = folder / WEIGHTS
    if not path.is_file():
        pickled = folder / "adapter_model.bin"
        raise pickle_refused(pickled) if pickled.is_file() else ModelError(f"{folder} has no {WEIGHTS}: get it again")
    halves = load_file(path)
    modules = dict(model.named_modules())
    names = sorted({name.rpartition(".lora_")[0] for name in halves if ".lora_" in name})
    if not names or len(halves) != 2 * len(names):
        raise ModelError(f"{path} holds more, or other, weights than pairs of LoRA's: only plain LoRA is merged")
    with torch.no_grad():
        for name in names:
            weight: torch.Tensor = _target(modules, name, folder).weight
            down, up = (halves[f"{name}.lora_{half}.weight"].float() for half in "AB")
            change = (up @ down) * scale
            if change.shape != weight.shape:
                raise ModelError(f"{name} of {folder} does not fit its base model: check which model it was made for")
            weight += change.to(weight.device, weight.dtype)


def _scale(config: Mapping[str, Any], folder: Path) -> float:
    """`alpha / r`, or `alpha / sqrt(r)` where the configuration says so.

    Raises:
        ModelError: the adapter is of another kind.
    """
    other = [key for key in _REFUSED if config.get(key)]
    if config.get("peft_type") != "LORA" or config.get("use_dora") or config.get("bias", "none") != "none" or other:
        what = other[0] if other else str(config.get("peft_type"))
        raise ModelError(f"{folder} is an adapter with {what}, and only plain LoRA is merged: merge it with peft first")
    rank, alpha = int(config["r"]), float(config["lora_alpha"])
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


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
