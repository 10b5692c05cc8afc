"""Loading a reranker by its spec, together with the encoder that some families stand on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmseek import rerank
from mmseek.models.spec import Spec
from mmseek.protocols import Reranker

__all__ = ["load_reranker"]


def load_reranker(spec: str, *, device: str | None = None) -> Reranker:
    """Load a reranker by its spec, `family:model[@revision]`; `mini` needs no more than its name.

    Args:
        spec: see `mmseek.rerank.FAMILIES` for the families.
        device: `cpu`, `cuda`, `cuda:1`, `mps` or `auto`; without it, the setting MMSEEK_DEVICE.

    Raises:
        SpecError: nothing answers to the spec.
        ModelError: the weights are missing or cannot be used.
        ConfigError: the device is not on this machine.
    """
    return rerank.load_reranker(spec, device=device, towers=_towers)


def _towers(spec: Spec, device: str | None) -> Any:
    """What the family of a spec stands on."""
    del device
    from mmseek.embed.mini.look import MiniLook

    return MiniLook.load(None if spec.model is None else Path(spec.model))
