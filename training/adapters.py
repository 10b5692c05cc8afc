"""Which weights are trained: all, some, or low-rank adapters beside them; and one set of plain weights of it all."""

from __future__ import annotations

import copy
import re
from typing import Any

import torch
from torch import Tensor, nn

from mmseek.errors import ConfigError, MissingExtra
from mmseek.training.settings import ModelConfig, TuneConfig

__all__ = ["merged_state", "tune"]


def tune(inner: nn.Module, config: ModelConfig) -> None:
    """Put adapters in, if asked for, and say of every parameter whether it is trained. Trained ones become float32.

    Raises:
        ConfigError: a pattern fits no parameter, no layer is a target, or nothing is left to train.
        MissingExtra: adapters are asked for and peft is not installed.
    """
    names = [name for name, _ in inner.named_parameters()]
    for key, patterns in (("model.freeze", config.freeze), ("model.tune.also", config.tune.also)):
        for pattern in patterns:
            if not any(re.search(pattern, name) for name in names):
                raise ConfigError(f"{key} holds {pattern!r}, which fits no parameter: they are named like {names[-1]}")
    if config.tune.method == "full":
        wanted = dict.fromkeys(names, True)
    else:
        _inject(inner, config.tune)
        also = config.tune.also
        wanted = {
            name: ".lora_" in name or any(re.search(pattern, name) for pattern in also)
            for name, _ in inner.named_parameters()
        }
    for name, parameter in inner.named_parameters():
        trained = wanted[name] and not any(re.search(pattern, name) for pattern in config.freeze)
        # What was not trainable from the start (a scale that the loss replaces) stays so.
        parameter.requires_grad = trained and (parameter.requires_grad or ".lora_" in name)
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if not any(parameter.requires_grad for parameter in inner.parameters()):
        raise ConfigError("model.freeze and model.tune leave nothing to train: freeze less")


def _inject(inner: nn.Module, config: TuneConfig) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError as error:
        raise MissingExtra("tuning with adapters", "train") from error
    targets = set(config.targets)
    found = [name for name, module in inner.named_modules() if name.rpartition(".")[2] in targets and _takes(module)]
    if not found:
        raise ConfigError(f"model.tune.targets name no layer of this model: they are {', '.join(config.targets)}")
    trainable = {name: parameter.requires_grad for name, parameter in inner.named_parameters()}
    inject_adapter_in_model(
        LoraConfig(
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            target_modules=found,
            use_dora=config.method == "dora",
            init_lora_weights="gaussian" if config.init == "gaussian" else True,
        ),
        inner,
    )
    # peft freezes all else; `tune` says itself what is trained.
    for name, parameter in inner.named_parameters():
        parameter.requires_grad = trainable.get(name.replace(".base_layer", ""), ".lora_" in name)


def _takes(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear)


def merged_state(inner: nn.Module) -> dict[str, Tensor]:
    """The state under the names it had without adapters, with what they learned added. The module stays as it is."""
    state = {name: value.detach() for name, value in inner.state_dict().items()}
    for prefix, layer in _adapted(inner):
        merged: Any = copy.deepcopy(layer)  # one layer at a time: a whole second model would not fit everywhere
        with torch.no_grad():
            merged.merge(safe_merge=True)
        for name in [name for name in state if name.startswith(f"{prefix}.")]:
            del state[name]
        for name, value in merged.get_base_layer().state_dict().items():
            state[f"{prefix}.{name}"] = value.detach()
    return state


def _adapted(inner: nn.Module) -> list[tuple[str, nn.Module]]:
    import sys

    if "peft" not in sys.modules:
        return []
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [(name, module) for name, module in inner.named_modules() if isinstance(module, BaseTunerLayer)]
