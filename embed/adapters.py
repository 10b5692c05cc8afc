"""Several LoRA adapters on one model in memory, chosen by name: one encoder each, sharing the model's weights."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mmseek.embed.qwen_vl import QwenVLEncoder
from mmseek.embed.registry import FAMILIES, load_encoder
from mmseek.errors import ModelError
from mmseek.models.adapters import adapted_fingerprint, put_on, split_adapter
from mmseek.models.spec import absolute, parse_spec

__all__ = ["load_adapters"]


def load_adapters(spec: str, adapters: Mapping[str, str], *, device: str | None = None) -> dict[str, QwenVLEncoder]:
    """Load `family:MODEL` once, of the families on Qwen's models, with adapters beside its weights.

    Each encoder gives the vectors and has the fingerprint of `family:MODEL#ADAPTER`, up to the rounding of merging.
    They take turns with the model. Merging, which `load_encoder` does, is faster where one adapter is enough.

    Args:
        spec: of the whole model.
        adapters: a name -> the folder or hub id of an adapter.
        device: see `load_encoder`.

    Raises:
        ModelError: the family cannot share its model, or an adapter is not of it; as in `load_encoder` besides.
    """
    parsed = parse_spec(spec, FAMILIES)
    encoder = load_encoder(spec, device=device)
    if not isinstance(encoder, QwenVLEncoder):
        raise ModelError(f"the family {parsed.family} cannot swap adapters: load {spec}#ADAPTER once for each")
    made: dict[str, QwenVLEncoder] = {}
    turn = threading.Lock()
    specs = {name: replace(parsed, adapter=adapter) for name, adapter in adapters.items()}
    folders = {name: folder for name, each in specs.items() if (folder := split_adapter(each)[1]) is not None}
    wrapped = put_on(encoder.model, folders)
    for name, folder in folders.items():
        made[name] = encoder.with_model(
            _Adapted(wrapped, name, turn),
            spec=absolute(specs[name]),
            fingerprint=adapted_fingerprint(encoder.identity.fingerprint, folder),
        )
    return made


class _Adapted:
    """A model with one of its adapters on, as a family calls it."""

    def __init__(self, wrapped: Any, name: str, turn: threading.Lock) -> None:
        self._wrapped = wrapped
        self._name = name
        self._turn = turn
        self.config = wrapped.config
        self.dtype = wrapped.dtype

    def __call__(self, **inputs: Any) -> Any:
        with self._turn:
            self._wrapped.set_adapter(self._name, inference_mode=True)
            return self._wrapped.get_base_model()(**inputs)
