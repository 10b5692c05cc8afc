"""Models merged by weighting their weights: model soups (Wortsman et al. 2022, arXiv:2203.05482).

Qwen3-VL-Embedding merges its last two stages so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmseek.errors import InputError, ModelError
from mmseek.models.checkpoints import weight_files
from mmseek.training.checkpointing import written_whole
from mmseek.training.families.base import copy_beside

__all__ = ["merge"]


def merge(folders: Sequence[Path], output: Path, weights: Sequence[float] | None = None) -> int:
    """Write the weighted mean of checkpoints of one model into a new folder.

    Args:
        folders: at least two, of safetensors; configuration and tokenizer are taken from the first.
        output: must not exist.
        weights: one each, divided by their sum; equal ones if not given.

    Returns:
        How many tensors were merged.

    Raises:
        InputError: too few folders, weights that do not fit, or the output exists.
        ModelError: the checkpoints have not the same tensors.
        StorageError: the disk is full or read-only.
    """
    if len(folders) < 2:
        raise InputError("merging needs at least two folders")
    shares = list(weights or [1.0] * len(folders))
    if len(shares) != len(folders) or not math.isfinite(sum(shares)) or sum(shares) == 0:
        raise InputError(f"{len(folders)} folders need as many weights, whose sum is not 0: {len(shares)} were given")
    if output.exists():
        raise InputError(f"{output} exists already: give a new folder")
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder: give the folders of whole models")
    merged, metadata = _mean(folders, [share / sum(shares) for share in shares])
    name = weight_files(folders[0])[0].name if len(weight_files(folders[0])) == 1 else "model.safetensors"

    def write(part: Path) -> None:
        from safetensors.torch import save_file

        save_file(merged, part / name, metadata=metadata)
        copy_beside(folders[0], part)
        for inner in sorted(path for path in folders[0].iterdir() if path.is_dir()):
            (part / inner.name).mkdir()
            copy_beside(inner, part / inner.name)

    written_whole(output, write)
    return len(merged)


def _mean(folders: Sequence[Path], shares: Sequence[float]) -> tuple[dict[str, Any], dict[str, str] | None]:
    from safetensors import safe_open

    merged: dict[str, Any] = {}
    kinds: dict[str, Any] = {}
    metadata: dict[str, str] | None = None
    for place, (folder, share) in enumerate(zip(folders, shares, strict=True)):
        seen = set()
        for path in weight_files(folder):
            with safe_open(path, framework="pt") as file:
                metadata = metadata if place else file.metadata()
                for name in file.keys():  # noqa: SIM118  # not a dict
                    seen.add(name)
                    _add(merged, kinds, name, file.get_tensor(name), share, place, folder)
        if seen != merged.keys():
            lacking = sorted(merged.keys() - seen)
            raise ModelError(f"{folder} has no {lacking[0]}, which {folders[0]} has: merge checkpoints of one model")
    for name, kind in kinds.items():
        merged[name] = merged[name].to(kind)
    return merged, metadata


def _add(
    merged: dict[str, Any], kinds: dict[str, Any], name: str, tensor: Any, share: float, place: int, folder: Path
) -> None:
    if place and (name not in merged or merged[name].shape != tensor.shape):
        raise ModelError(f"{folder} has {name} in another shape, or alone: merge checkpoints of one model")
    if not tensor.is_floating_point():
        merged.setdefault(name, tensor)
        return
    kinds.setdefault(name, tensor.dtype)
    part = tensor.double() * share
    merged[name] = part if not place else merged[name] + part
