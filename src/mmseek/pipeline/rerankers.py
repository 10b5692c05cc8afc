"""Rerankers by their spec, those on top of an encoder included: here the rooms of encoders and of rerankers meet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmseek import embed, rerank
from mmseek.config import settings
from mmseek.errors import SpecError
from mmseek.models.spec import Spec

if TYPE_CHECKING:
    from mmseek.protocols import Reranker

__all__ = ["load_reranker"]

_LATE: Final = "late-interaction"
_MINI: Final = "mini"


def load_reranker(spec: str, *, device: str | None = None) -> Reranker:
    """Load a reranker by its spec, `family:model[@revision]`, `mini`, or `late-interaction:` and an encoder's spec.

    Args:
        spec: see `mmseek.rerank.FAMILIES` for the families.
        device: `cpu`, `cuda`, `cuda:1`, `mps` or `auto`; without it, the setting MMSEEK_DEVICE.

    Raises:
        SpecError: nothing answers to the spec.
        ModelError: the weights are missing or cannot be used.
        ConfigError: the device is not on this machine.
    """
    family, _, encoder = spec.strip().partition(":")
    if family == _MINI:
        return _mini(rerank.parse_spec(spec, rerank.FAMILIES, "reranker"))
    if family != _LATE:
        return rerank.load_reranker(spec, device=device)
    rerank.parse_spec(spec, rerank.FAMILIES, "reranker")
    if encoder.partition(":")[0] not in embed.FAMILIES:
        families = [name for name, each in embed.FAMILIES.items() if each.multi_vector]
        raise SpecError(
            f"{spec} names no encoder after {_LATE}: write {' or '.join(f'{_LATE}:{name}:MODEL' for name in families)}"
        )
    from mmseek.rerank.late_interaction import LateInteractionReranker

    return LateInteractionReranker(embed.load_multi_vector_encoder(encoder, device=device))


def _mini(spec: Spec) -> Reranker:
    """On a CPU, whatever the device; `spec.model`, if given, is the folder of all-MiniLM-L6-v2."""
    from mmseek.embed.mini.look import MiniLook
    from mmseek.media import MediaLimits
    from mmseek.rerank.mini.reranker import MiniReranker

    limits = MediaLimits.from_settings(settings())
    return MiniReranker.on(MiniLook.load(None if spec.model is None else Path(spec.model), limits))
