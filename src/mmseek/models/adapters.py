"""LoRA adapters (PEFT; Hu et al. 2021, arXiv 2106.09685) on the models of encoders: found, checked, put on, merged.

An adapter is a folder with `adapter_config.json` and `adapter_model.safetensors`. A spec names one after a hash,
`family:MODEL#ADAPTER`, or as the model itself, `family:ADAPTER`; its configuration then says on what it was trained.
"""

from __future__ import annotations

import importlib.util
import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from mmseek.errors import MissingExtra, ModelError
from mmseek.models.checkpoints import files_sha256, find_folder, json_object, pickle_refused
from mmseek.models.spec import Spec

__all__ = ["CONFIG", "WEIGHTS", "adapted_fingerprint", "base_spec", "is_adapter", "merged", "put_on", "split_adapter"]

CONFIG: Final = "adapter_config.json"
WEIGHTS: Final = "adapter_model.safetensors"
# What names of weights may have before the layers, by the version that wrote them and with or without the head.
_WRAPPERS: Final = frozenset({"base_model", "model", "language_model", "weight"})


def split_adapter(spec: Spec) -> tuple[Spec, Path | None]:
    """The spec of the whole model, and the folder of the adapter on it, if there is one.

    Raises:
        ModelError: the adapter is not there or has no safetensors weights, or its base model is not to be found.
    """
    if spec.adapter is not None:
        return replace(spec, adapter=None), _checked(find_folder(Spec(spec.family, spec.adapter)))
    if spec.model is None or spec.revision is not None or not is_adapter(Path(spec.model).expanduser()):
        return spec, None
    folder = _checked(Path(spec.model).expanduser())
    return base_spec(spec, folder), folder


def adapted_fingerprint(fingerprint: str, adapter: Path | None) -> str:
    """The fingerprint of a model with an adapter on it, or of the model itself where there is none.

    Of the adapter's configuration all counts but the place of the base model, which may move.
    """
    if adapter is None:
        return fingerprint
    config = {key: value for key, value in json_object(adapter / CONFIG).items() if "base_model" not in key}
    text = json.dumps(config, sort_keys=True)
    return files_sha256([adapter / WEIGHTS], recipe=f"{fingerprint} with the LoRA adapter {text}")


def merged(model: Any, adapter: Path | None) -> Any:
    """The model with the adapter's weights added to its own; the model itself where there is none.

    Raises:
        MissingExtra: PEFT is not installed.
        ModelError: the adapter is not of this model.
    """
    if adapter is None:
        return model
    wrapped = put_on(model, {"default": adapter})
    with _blamed_on(adapter):
        return wrapped.merge_and_unload(safe_merge=True)


def put_on(model: Any, adapters: Mapping[str, Path]) -> Any:
    """The model with adapters beside its weights, to be chosen by `set_adapter(name)`: a `peft.PeftModel`.

    Raises:
        MissingExtra: PEFT is not installed.
        ModelError: an adapter is not of this model.
    """
    if importlib.util.find_spec("peft") is None:
        raise MissingExtra("a LoRA adapter", "lora")
    from peft import LoraConfig, PeftModel

    wrapped: Any = None
    for name, folder in adapters.items():
        with _blamed_on(folder):
            config = LoraConfig.from_pretrained(str(_checked(folder)), local_files_only=True)
            config.inference_mode = True
            if wrapped is None:
                wrapped = PeftModel(model, config, adapter_name=name)
            else:
                wrapped.add_adapter(name, config)
            _fill(wrapped, name, folder)
    return wrapped.eval()


def _fill(wrapped: Any, name: str, folder: Path) -> None:
    """Put an adapter's weights into their places; every place is filled and every weight has one."""
    from safetensors.torch import load_file

    places = {
        _plain(key, name): value
        for key, value in wrapped.state_dict().items()
        if f".{name}." in f"{key}." and "lora_" in key
    }
    given = {_plain(key, name): value for key, value in load_file(folder / WEIGHTS).items()}
    if odd := sorted(places.keys() ^ given.keys()):
        raise ModelError(
            f"the LoRA adapter {folder} does not fit the model: {odd[0]} and {len(odd) - 1} more weights are only in "
            f"{'the adapter' if odd[0] in given else 'the model'}; give the model that it was trained on"
        )
    for key, value in given.items():
        places[key].copy_(value)


def _plain(key: str, adapter: str) -> str:
    """A weight's name without what differs between versions."""
    return ".".join(part for part in key.split(".") if part not in _WRAPPERS and part != adapter)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no whole model."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def _checked(folder: Path) -> Path:
    config = json_object(folder / CONFIG)
    if config.get("peft_type") != "LORA":
        raise ModelError(
            f"{folder} holds an adapter of type {config.get('peft_type')}, and only LORA is read: use another"
        )
    if not (folder / WEIGHTS).is_file():
        for pickled in sorted(folder.glob("adapter_model.*")):
            raise pickle_refused(pickled)
        raise ModelError(f"{folder} has no {WEIGHTS}: get the adapter again")
    return folder


def base_spec(spec: Spec, folder: Path) -> Spec:
    """The spec of the model that an adapter says it was trained on.

    Raises:
        ModelError: it is not to be found.
    """
    base = json_object(folder / CONFIG).get("base_model_name_or_path")
    spec, advice = replace(spec, revision=None), f"write {spec.family}:BASE_MODEL#{folder}"
    if not isinstance(base, str) or not base:
        raise ModelError(f"{folder} is a LoRA adapter that does not name its base model: {advice}")
    for place in (folder / base, folder.parent / base, Path(base).expanduser()):
        if place.is_dir():
            return replace(spec, model=str(place))
    try:
        find_folder(replace(spec, model=base))
    except ModelError as error:
        raise ModelError(
            f"{folder} is a LoRA adapter of {base}, which is not on this machine and cannot be fetched: {advice}"
        ) from error
    return replace(spec, model=base)


@contextmanager
def _blamed_on(folder: Path) -> Iterator[None]:
    """Turn what PEFT and safetensors raise into an error that names the adapter."""
    try:
        with warnings.catch_warnings():
            # PEFT 0.21 asks transformers 5 for an attribute under its old name.
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
            yield
    except ModelError:
        raise
    except Exception as error:  # each library raises its own
        reason = " ".join(str(error).split())[:300]
        raise ModelError(
            f"the LoRA adapter {folder} cannot be loaded ({type(error).__name__}: {reason}): "
            "give the model that it was trained on"
        ) from error
