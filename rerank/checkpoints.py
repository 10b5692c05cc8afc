"""Finds a reranker's files, in a folder or on the model hub, and hashes them. Weights are safetensors, nothing else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

from mmseek.config import settings
from mmseek.errors import ModelError
from mmseek.rerank.spec import Spec

__all__ = ["files_sha256", "find_checkpoint", "json_object", "pick_device"]

# What is fetched from the hub: weights, configurations and tokenizers; never pickles, never code.
_WANTED: Final = ("*.safetensors", "*.json", "*.txt", "*.jinja", "*.model")
_PICKLES: Final = (".pth", ".pt", ".bin", ".ckpt", ".pkl")


def find_checkpoint(spec: Spec) -> Path:
    """The folder that a spec names, else its files from the hub (or the hub's cache).

    Raises:
        ModelError: it is not there, has no configuration, or its weights are not safetensors.
    """
    place = Path(spec.model).expanduser()
    if place.is_file():
        raise ModelError(f"{place} is a file: give the folder that holds the weights, configuration and tokenizer")
    if place.is_dir():
        folder = place
    elif place.is_absolute() or spec.model.startswith((".", "~")) or spec.model.count("/") > 1:
        raise ModelError(f"the folder {place} does not exist: check the path")
    else:
        folder = _from_hub(spec)
    json_object(folder / "config.json")
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{folder} holds no .safetensors weights, and pickled ones (.pth, .bin), which can run code, are never "
            "opened: convert them once with save_pretrained(..., safe_serialization=True)"
        )
    _refuse_pickles(folder)
    return folder


def files_sha256(folder: Path, *, recipe: str) -> str:
    """SHA-256, in hexadecimal, of a recipe's name and of the checkpoint's files, in the order of their names.

    Raises:
        ModelError: a file cannot be read.
    """
    total = hashlib.sha256(f"{recipe}\n".encode())
    for place in [folder, *_module_folders(folder)]:
        paths = {path for pattern in _WANTED for path in place.glob(pattern) if path.is_file()}
        for path in sorted(paths):
            try:
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise ModelError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
            total.update(f"{path.relative_to(folder).as_posix()} {digest}\n".encode())
    return total.hexdigest()


def json_object(path: Path) -> dict[str, Any]:
    """A JSON file of a checkpoint.

    Raises:
        ModelError: it is not there or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{path.parent} has no {path.name}: give the folder of a whole checkpoint") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: get the checkpoint again") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} does not hold a JSON object: get the checkpoint again")
    return found


def pick_device(name: str | None = None) -> str:
    """The device to use: `name`, else the setting; `auto` is the first of CUDA, Apple's MPS and CPU that is there.

    Raises:
        ConfigError: the name is unknown.
    """
    import torch

    wanted = settings(device=name).device if name is not None else settings().device
    if wanted != "auto":
        return wanted
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def _module_folders(folder: Path) -> list[Path]:
    """The folders of further modules, as sentence-transformers lists them."""
    listing = folder / "modules.json"
    if not listing.is_file():
        return []
    try:
        names = [str(module["path"]) for module in json.loads(listing.read_text(encoding="utf-8"))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{listing} is not a list of modules: get the checkpoint again") from error
    return sorted(folder / name for name in names if name and (folder / name).is_dir())


def _refuse_pickles(folder: Path) -> None:
    for place in _module_folders(folder):
        pickles = sorted(path for path in place.iterdir() if path.suffix in _PICKLES)
        if pickles and not any(place.glob("*.safetensors")):
            raise ModelError(
                f"{pickles[0]} is a pickle, which can run code, and is refused: convert it to .safetensors"
            )


def _from_hub(spec: Spec) -> Path:
    from huggingface_hub import snapshot_download

    offline = settings().offline
    try:
        found = snapshot_download(
            spec.model, revision=spec.revision, allow_patterns=list(_WANTED), local_files_only=offline
        )
    except Exception as error:  # the client raises errors of its own, of httpx and of the system
        why = "MMSEEK_OFFLINE is set" if offline else f"it cannot be fetched ({type(error).__name__})"
        raise ModelError(
            f"the model {spec.model} is neither a folder nor on this machine and {why}: check the name or give a folder"
        ) from error
    return Path(found)
