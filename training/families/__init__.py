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
        "biqwen2": "mmseek.training.families.qwen_vl:TrainableQwenVL",
        "mm-embed": "mmseek.training.families.mm_embed:TrainableMmEmbed",
        "mme5": "mmseek.training.families.mme5:TrainableMmE5",
        "notellm2": "mmseek.training.families.notellm2:TrainableNoteLlm2",
        "colqwen2": "mmseek.training.families.tokens:TrainableTokens",
        "colpali": "mmseek.training.families.tokens:TrainableTokens",
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
    from mmseek.embed import FAMILIES, load_encoder, load_multi_vector_encoder
    from mmseek.embed.detect import resolve

    parsed = parse_spec(spec, FAMILIES)
    if parsed.family == "auto":
        parsed, _ = resolve(parsed)
    if parsed.family not in TRAINABLE:
        raise SpecError(
            f"the family {parsed.family!r} cannot be trained here: model.encoder is one of {', '.join(TRAINABLE)}"
        )
    module, _, name = TRAINABLE[parsed.family].partition(":")
    load = load_multi_vector_encoder if FAMILIES[parsed.family].multi_vector else load_encoder
    trainable: Trainable = getattr(import_module(module), name)(load(str(parsed), device=device))
    return trainable
