"""The files of a model of sentence-transformers: which there are, that none runs code unless the user trusts it,
and the model that they make.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mmseek.errors import ModelError
from mmseek.models.adapters import merged
from mmseek.models.checkpoints import adapter_refused, inside_of, json_object, module_list, pickle_refused
from mmseek.models.device import pick_dtype
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
            raise adapter_refused(place)
        files |= own
    if not any(path.suffix == ".safetensors" for path in files):
        raise ModelError(f"{folder} holds no .safetensors weights in any of its modules: get the model again")
    return sorted(files)


def load_model(folder: Path, spec: Spec, *, device: str, adapter: Path | None = None) -> Any:
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
            trust_remote_code=is_trusted(spec),
            local_files_only=True,
            model_kwargs={"dtype": dtype, "use_safetensors": True},
        )
    except Exception as error:  # each kind of module raises errors of its own
        if "trust_remote_code" in str(error):
            raise code_refused(spec, f"its configuration names {_own_code(folder)}") from error
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
