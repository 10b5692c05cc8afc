"""The files of a model of sentence-transformers: which there are, that none runs code unless the user trusts it,
and the model that they make.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mmseek.errors import ModelError
from mmseek.models.checkpoints import inside_of, json_object, module_list, pickle_refused
from mmseek.models.spec import Spec
from mmseek.models.trust import code_refused, is_trusted

__all__ = ["load_model", "model_files"]

_OWN: Final = "sentence_transformers."
# What may change a vector.
_PATTERNS: Final = ("*.safetensors", "*.json", "*.txt", "*.jinja", "*.model")
_PICKLED_WEIGHTS: Final = ("pytorch_model*", "model*")


def model_files(folder: Path, spec: Spec) -> list[Path]:
    """Weights, configurations, tokenizers and trusted code of a model's modules, in the order of their paths.

    Raises:
        ModelError: it is no model of sentence-transformers, its weights are not safetensors, or it needs other code.
    """
    files: set[Path] = set()
    patterns = (*_PATTERNS, "*.py") if is_trusted(spec) else _PATTERNS
    for place in _module_folders(folder, spec):
        own = {path for pattern in patterns for path in place.glob(pattern) if path.is_file()}
        if not any(path.suffix == ".safetensors" for path in own):
            for pattern in _PICKLED_WEIGHTS:
                for path in sorted(place.glob(pattern)):
                    if path.suffix in {".bin", ".pt", ".pth", ".pkl", ".ckpt"}:
                        raise pickle_refused(path)
        if (place / "adapter_config.json").is_file():
            raise ModelError(f"{place} holds a LoRA adapter and not a whole model: merge it into its base model first")
        files |= own
    if not any(path.suffix == ".safetensors" for path in files):
        raise ModelError(f"{folder} holds no .safetensors weights in any of its modules: get the model again")
    return sorted(files)


def load_model(folder: Path, spec: Spec, *, device: str) -> Any:
    """The `SentenceTransformer` of a folder that `model_files` has seen, in float32. Nothing is fetched.

    Raises:
        ModelError: it cannot be loaded, or needs code of its own.
    """
    import torch
    from sentence_transformers import SentenceTransformer

    try:
        model = SentenceTransformer(
            str(folder),
            device=device,
            trust_remote_code=is_trusted(spec),
            local_files_only=True,
            model_kwargs={"dtype": torch.float32, "use_safetensors": True},
        )
    except Exception as error:  # each kind of module raises errors of its own
        if "trust_remote_code" in str(error):
            raise code_refused(spec, f"its configuration names {_own_code(folder)}") from error
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"{folder} cannot be loaded ({type(error).__name__}: {reason}): get it again") from error
    return model.float().eval()


def _module_folders(folder: Path, spec: Spec) -> list[Path]:
    """The root and where each module lies, those behind a router as well."""
    modules = module_list(folder)
    if not modules:
        if (folder / "modules.json").is_file():
            raise ModelError(f"{folder / 'modules.json'} does not hold a list of modules: get the model again")
        raise ModelError(
            f"{folder} has no modules.json and so is no model of sentence-transformers: use another family"
        )
    places = [folder]
    for kind, path in modules:
        _check_code(spec, kind)
        place = folder / path
        places.append(place)
        if (place / "router_config.json").is_file():
            types = json_object(place / "router_config.json").get("types")
            for name, inner in types.items() if isinstance(types, Mapping) else ():
                _check_code(spec, str(inner))
                places.append(inside_of(folder, str(Path(path) / name)))
    return list(dict.fromkeys(places))


def _check_code(spec: Spec, kind: str) -> None:
    if not kind.startswith(_OWN) and not is_trusted(spec):
        raise code_refused(spec, f"its modules name {kind}")


def _own_code(folder: Path) -> str:
    """The classes that a model's configuration wants to have made from code beside it."""
    found: list[str] = []
    for path in sorted(folder.rglob("config.json")):
        classes = json_object(path).get("auto_map")
        found += [str(value) for value in classes.values()] if isinstance(classes, Mapping) else []
    return " and ".join(dict.fromkeys(found)) or "it"
