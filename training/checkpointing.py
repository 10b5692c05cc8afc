"""Checkpoints of a run: safetensors and JSON, whole or not there, from which it goes on as if it had never stopped."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from mmseek.errors import ModelError, StorageError
from mmseek.training.gathering import rank

__all__ = [
    "latest",
    "load_optimizer",
    "load_random",
    "load_weights",
    "prune",
    "save_optimizer",
    "save_random",
    "save_weights",
    "written_whole",
]

_WEIGHTS: Final = "trained.safetensors"
_OPTIMIZER: Final = "optimizer.safetensors"
_OPTIMIZER_JSON: Final = "optimizer.json"


def latest(output: Path) -> Path | None:
    """The newest checkpoint of a run's folder; what was not written to its end is no checkpoint."""
    found = [path for path in output.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    return max(found, key=lambda path: int(path.name.removeprefix("checkpoint-")), default=None)


def prune(output: Path, keep: int) -> None:
    """Remove all but the newest checkpoints, and what killed runs left half written."""
    found = [path for path in output.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
    found.sort(key=lambda path: int(path.name.removeprefix("checkpoint-")))
    for path in [*found[:-keep], *output.glob(".*.part")]:
        shutil.rmtree(path, ignore_errors=True)


def written_whole(folder: Path, write: Callable[[Path], None]) -> None:
    """Write a folder under another name and give it its own when it is whole; an older one is replaced.

    Raises:
        StorageError: the disk is full or read-only.
    """
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        part.mkdir(parents=True)
        write(part)
        for path in part.rglob("*"):
            if path.is_file():
                _flush(path)
        if folder.exists():
            shutil.rmtree(folder)
        part.replace(folder)
        _flush(folder.parent)
    except OSError as error:
        raise StorageError(f"{folder} cannot be written ({error.strerror or error}): make room on the disk") from error


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def save_weights(folder: Path, module: nn.Module) -> None:
    """What is trained, and buffers, which may change too."""
    save_file(
        {name: value.detach().cpu().contiguous().clone() for name, value in _own(module).items()}, folder / _WEIGHTS
    )


def load_weights(folder: Path, module: nn.Module) -> None:
    """Put the weights of a checkpoint in place.

    Raises:
        ModelError: it is a checkpoint of something else.
    """
    saved, own = load_file(folder / _WEIGHTS), _own(module)
    if saved.keys() != own.keys():
        raise ModelError(f"{folder} is a checkpoint of another model or of other tuned layers: use another run.output")
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(saved[name])


def _own(module: nn.Module) -> dict[str, Tensor]:
    trained = {name: value for name, value in module.named_parameters() if value.requires_grad}
    return trained | dict(module.named_buffers())


def save_optimizer(folder: Path, optimizer: Any, scheduler: Any) -> None:
    """AdamW's moments as tensors, the rest as JSON."""
    state = optimizer.state_dict()
    tensors = {
        f"{number}.{name}": value.detach().cpu().contiguous()
        for number, values in state["state"].items()
        for name, value in values.items()
    }
    save_file(tensors, folder / _OPTIMIZER)
    rest = {"groups": state["param_groups"], "schedule": scheduler.state_dict()}
    (folder / _OPTIMIZER_JSON).write_text(json.dumps(rest))


def load_optimizer(folder: Path, optimizer: Any, scheduler: Any) -> None:
    """Put both as they were."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in load_file(folder / _OPTIMIZER).items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    rest = json.loads((folder / _OPTIMIZER_JSON).read_text())
    optimizer.load_state_dict({"state": state, "param_groups": rest["groups"]})
    scheduler.load_state_dict(rest["schedule"])


def save_random(folder: Path) -> None:
    """This process's random state; the order of rows needs none."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    save_file(states, folder / f"random-{rank()}.safetensors")


def load_random(folder: Path) -> None:
    """Put it as it was, if a process of this rank saved one."""
    path = folder / f"random-{rank()}.safetensors"
    if not path.is_file():
        return
    states = load_file(path)
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
