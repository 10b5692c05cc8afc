"""Finds a model's files, in a folder or on the model hub, and hashes them. Weights are safetensors and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from mmseek.config import settings
from mmseek.errors import ModelError, SpecError
from mmseek.models.spec import Spec
from mmseek.models.trust import is_trusted

__all__ = [
    "adapter_refused",
    "checkpoint_files",
    "files_sha256",
    "find_checkpoint",
    "find_folder",
    "inside_of",
    "json_object",
    "module_list",
    "pickle_refused",
    "weight_files",
]

# What is fetched from the hub: weights, configurations and tokenizers; never pickles, never code.
_WANTED: Final = ("*.safetensors", "*.json", "*.txt", "*.jinja", "*.model")
# Only of a model whose code the user trusts.
_CODE: Final = "*.py"
_PICKLES: Final = (".pth", ".pt", ".bin", ".ckpt", ".pkl")


def find_checkpoint(spec: Spec) -> Path:
    """The folder of a spec's model, see `find_folder`, with whole weights in it.

    Raises:
        SpecError: the spec names no model.
        ModelError: the folder or the hub's model is not there, or its weights are not safetensors.
    """
    if spec.adapter is not None:
        raise adapter_refused(spec.adapter)
    folder = find_folder(spec)
    weight_files(folder)
    if (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file():
        raise adapter_refused(folder)
    return folder


def find_folder(spec: Spec) -> Path:
    """The folder that a spec names, else its model's files from the hub (or its cache); weights are not looked at.

    Raises:
        SpecError: the spec names no model.
        ModelError: the folder or the hub's model is not there.
    """
    if spec.model is None:
        raise SpecError(
            f"the family {spec.family!r} names no model: write {spec.family}:HUB_ID or {spec.family}:FOLDER"
        )
    place = Path(spec.model).expanduser()
    if place.is_file():
        if place.suffix in _PICKLES:
            raise pickle_refused(place)
        raise ModelError(f"{place} is a file: give the folder that holds the weights, configuration and tokenizer")
    if place.is_dir():
        return place
    if place.is_absolute() or spec.model.startswith((".", "~")) or spec.model.count("/") > 1:
        raise ModelError(f"the folder {place} does not exist: check the path")
    return _from_hub(spec.model, spec.revision, code=is_trusted(spec))


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that together are the weights.

    Raises:
        ModelError: there is none, or it is not clear which.
    """
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        pickles = sorted(path for path in folder.iterdir() if path.suffix in _PICKLES)
        if pickles:
            raise pickle_refused(pickles[0])
        raise ModelError(
            f"{folder} holds no .safetensors weights, and pickled ones (.pth, .bin) are never opened: "
            "convert them once as docs/encoders.md shows"
        )
    whole = folder / "model.safetensors"
    if whole in found:
        return [whole]
    if len(found) > 1 and not (folder / "model.safetensors.index.json").is_file():
        raise ModelError(f"{folder} holds several .safetensors files and no index of them: keep the model's own only")
    return found


def json_object(path: Path, *, missing_ok: bool = False) -> dict[str, Any]:
    """A JSON file of a checkpoint.

    Args:
        path: of the file.
        missing_ok: an empty object stands for a file that is not there.

    Raises:
        ModelError: it is not there or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if missing_ok:
            return {}
        raise ModelError(f"{path.parent} has no {path.name}: give the folder of a whole checkpoint") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: get the checkpoint again") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} does not hold a JSON object: get the checkpoint again")
    return found


def checkpoint_files(folder: Path) -> list[Path]:
    """Every file of a checkpoint that a model may be made from, those of sentence-transformers' modules included.

    Raises:
        ModelError: the list of modules is broken, or a module has its weights in a pickle only.
    """
    modules = _module_folders(folder)
    for place in modules:
        pickles = sorted(path for path in place.iterdir() if path.suffix in _PICKLES)
        if pickles and not any(place.glob("*.safetensors")):
            raise pickle_refused(pickles[0])
    return [
        path
        for place in [folder, *modules]
        for path in sorted({path for pattern in _WANTED for path in place.glob(pattern) if path.is_file()})
    ]


def files_sha256(paths: Iterable[Path], *, recipe: str, root: Path | None = None) -> str:
    """SHA-256, in hexadecimal, of a recipe's name and of files, in the order of their names.

    Args:
        paths: the files.
        recipe: what is done with them, and its version.
        root: a file's name is its path below this folder; without one, the last part of its path.

    Raises:
        ModelError: a file cannot be read.
    """
    total = hashlib.sha256(f"{recipe}\n".encode())
    named = {path: path.name if root is None else path.relative_to(root).as_posix() for path in paths}
    for path, name in sorted(named.items(), key=lambda item: item[1]):
        try:
            with path.open("rb") as file:
                total.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        except OSError as error:
            raise ModelError(f"{path} cannot be read ({error.strerror}): check its permissions and the disk") from error
    return total.hexdigest()


def module_list(folder: Path) -> list[tuple[str, str]]:
    """The type and the path of each module, as sentence-transformers lists them; empty where there is no list.

    Raises:
        ModelError: the list is broken, or names a place outside the folder.
    """
    listing = folder / "modules.json"
    try:
        found = json.loads(listing.read_text(encoding="utf-8"))
        modules = [(str(module.get("type", "")), str(module["path"])) for module in found]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{listing} is not a list of modules with type and path: get the model again") from error
    for _, path in modules:
        inside_of(folder, path)
    return modules


def inside_of(folder: Path, path: str) -> Path:
    """A module's folder.

    Raises:
        ModelError: it is outside the model's.
    """
    if not (folder / path).resolve().is_relative_to(folder.resolve()):
        raise ModelError(f"{folder / 'modules.json'} names a module outside the folder, {path}: use another model")
    return folder / path


def _module_folders(folder: Path) -> list[Path]:
    return sorted(folder / path for _, path in module_list(folder) if path and (folder / path).is_dir())


def _from_hub(model: str, revision: str | None, *, code: bool) -> Path:
    from huggingface_hub import snapshot_download

    offline = settings().offline
    wanted = [*_WANTED, _CODE] if code else list(_WANTED)
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=wanted, local_files_only=offline))
    except Exception as error:  # the client raises errors of its own, of httpx and of the system
        why = "MMSEEK_OFFLINE is set" if offline else f"it cannot be fetched ({type(error).__name__})"
        named = model if revision is None else f"{model}@{revision}"
        raise ModelError(
            f"the model {named} is neither a folder nor on this machine and {why}: check the name or give a folder"
        ) from error


def adapter_refused(adapter: Path | str) -> ModelError:
    """The error that says that this family takes no adapters."""
    return ModelError(
        f"{adapter} holds a LoRA adapter and not a whole model, and this family takes whole models only: "
        "merge it into its base model first"
    )


def pickle_refused(path: Path) -> ModelError:
    """The error that says why this file is not opened."""
    return ModelError(
        f"{path} is a pickle, which can run code when it is opened, and is refused: "
        "convert it once to .safetensors as docs/encoders.md shows"
    )
