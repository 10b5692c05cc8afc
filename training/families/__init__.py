"""Encoders as modules to train: one row a family that can be trained here."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from mmseek.errors import SpecError
from mmseek.models.spec import parse_spec

if TYPE_CHECKING:
    from mmseek.training.families.base import Trainable

__all__ = ["TRAINABLE", "load_trainable"]

TRAINABLE: Final[Mapping[str, str]] = MappingProxyType(
    {
        "vlm2vec": "mmseek.training.families.qwen_vl:TrainableQwenVL",
        "qwen3-vl": "mmseek.training.families.qwen_vl:TrainableQwenVL",
        "gme": "mmseek.training.families.qwen_vl:TrainableQwenVL",
        "clip": "mmseek.training.families.clip:TrainableClip",
        "uniir-clip-sf": "mmseek.training.families.clip:TrainableClip",
        "st": "mmseek.training.families.st:TrainableSt",
        "mini": "mmseek.training.families.mini:TrainableMini",
    }
)
"""The family's name -> `module:class`."""


def load_trainable(spec: str, *, device: str | None = None) -> Trainable:
    """Load an encoder as a module whose vectors carry gradients.

    Raises:
        SpecError: no family answers to the spec, or the family cannot be trained here.
        ModelError: the weights are missing or unusable.
    """
    from mmseek.embed import FAMILIES, load_encoder
    from mmseek.embed.detect import resolve

    parsed = parse_spec(spec, FAMILIES)
    if parsed.family == "auto":
        parsed, _ = resolve(parsed)
    if parsed.family not in TRAINABLE:
        raise SpecError(
            f"the family {parsed.family!r} cannot be trained here: model.encoder is one of {', '.join(TRAINABLE)}"
        )
    module, _, name = TRAINABLE[parsed.family].partition(":")
    trainable: Trainable = getattr(import_module(module), name)(load_encoder(str(parsed), device=device))
    return trainable
