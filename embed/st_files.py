"""The files of a model of sentence-transformers: which there are, that none runs code, and the model that they make."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mmseek.errors import ModelError
from mmseek.models.adapters import merged
from mmseek.models.checkpoints import adapter_refused, json_object, pickle_refused
from mmseek.models.device import pick_dtype

__all__ = ["load_model", "model_files"]

_OWN: Final = "sentence_transformers."
# What may change a vector.
_PATTERNS: Final = ("*.safetensors", "*.json", "*.txt", "*.jinja", "*.model")
_PICKLED_WEIGHTS: Final = ("pytorch_model*", "model*")


def model_files(folder: Path) -> list[Path]:
    """Weights, configurations and tokenizers of a model's modules, in the order of their paths.

    Raises:
        ModelError: it is no model of sentence-transformers, its weights are not safetensors, or it needs other code.
    """
    files: set[Path] = set()
    for place in _module_folders(folder):
        own = {path for pattern in _PATTERNS for path in place.glob(pattern) if path.is_file()}
        if not any(path.suffix == ".safetensors" for path in own):
            for pattern in _PICKLED_WEIGHTS:
                for path in sorted(place.glob(pattern)):
                    if path.suffix in {".bin", ".pt", ".pth", ".pkl", ".ckpt"}:
                        raise pickle_refused(path)
        if (place / "adapter_config.json").is_file():
            raise adapter_refused(place)
        files |= own
    if not any(path.suffix == ".safetensors" for path in files):
        raise ModelError(f"{folder} holds no .safetensors weights in any of its modules: get the model again")
    return sorted(files)


def load_model(folder: Path, *, device: str, adapter: Path | None = None) -> Any:
    """The `SentenceTransformer` of a folder that `model_files` has seen, in float32 unless another precision is asked.

    Nothing is fetched. An adapter is merged into the transformer that the model begins with.

    Raises:
        ModelError: it cannot be loaded, or needs code of its own.
    """
    from sentence_transformers import SentenceTransformer

    dtype = pick_dtype(device, usual="float32")
    try:
        model = SentenceTransformer(
            str(folder),
            device=device,
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"dtype": dtype, "use_safetensors": True},
        )
    except Exception as error:  # each kind of module raises errors of its own
        if "trust_remote_code" in str(error):
            raise _code_refused(folder, "its configuration asks for it") from error
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{folder} cannot be loaded ({type(error).__name__}: {reason}): get it again") from error
    if adapter is not None:
        _put_into_first(model, folder, adapter)
    return model.to(dtype).eval()


def _put_into_first(model: Any, folder: Path, adapter: Path) -> None:
    """Merge an adapter into the transformer that a model begins with."""
    first = model[0]
    if not hasattr(first, "auto_model"):
        raise ModelError(
            f"{folder} does not begin with a transformer, which an adapter could be put on: merge it first"
        )
    first.auto_model = merged(first.auto_model, adapter)


def _module_folders(folder: Path) -> list[Path]:
    """The root and where each module lies, those behind a router as well."""
    places = [folder]
    for module in _modules(folder / "modules.json"):
        kind, path = module.get("type"), module.get("path")
        if not isinstance(kind, str) or not isinstance(path, str):
            raise ModelError(f"{folder / 'modules.json'} has a module without type and path: get the model again")
        _check_code(folder, kind)
        place = _inside(folder, path)
        places.append(place)
        if (place / "router_config.json").is_file():
            types = json_object(place / "router_config.json").get("types")
            for name, inner in types.items() if isinstance(types, Mapping) else ():
                _check_code(folder, str(inner))
                places.append(_inside(folder, str(Path(path) / name)))
    return list(dict.fromkeys(places))


def _modules(path: Path) -> list[Mapping[str, Any]]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(
            f"{path.parent} has no modules.json and so is no model of sentence-transformers: use another family"
        ) from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: get the model again") from error
    if not isinstance(found, list) or not found or not all(isinstance(module, dict) for module in found):
        raise ModelError(f"{path} does not hold a list of modules: get the model again")
    return found


def _inside(folder: Path, path: str) -> Path:
    if not (folder / path).resolve().is_relative_to(folder.resolve()):
        raise ModelError(f"{folder / 'modules.json'} names a module outside the folder, {path}: use another model")
    return folder / path


def _check_code(folder: Path, kind: str) -> None:
    if not kind.startswith(_OWN):
        raise _code_refused(folder, f"its modules name {kind}")


def _code_refused(folder: Path, why: str) -> ModelError:
    return ModelError(f"{folder} needs code of its own ({why}), which is never run: use another model")
