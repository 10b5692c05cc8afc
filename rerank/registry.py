"""The families of rerankers: one row and one module each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from mmseek.models.spec import parse_spec

if TYPE_CHECKING:
    from mmseek._types import Modality
    from mmseek.protocols import Reranker

__all__ = ["FAMILIES", "Family", "load_reranker"]


@dataclass(frozen=True, slots=True)
class Family:
    """What `mmseek models` shows of a family, and how it is loaded.

    Args:
        name: as written in specs.
        summary: one line.
        modalities: what it reads of a query and of a document.
        needs: what must be there besides mmseek itself, for people.
        takes_instruction: whether an instruction changes its scores.
        loader: `module:function`, imported when it is loaded; called as
            `load(spec, *, device: str | None) -> Reranker`.
    """

    name: str
    summary: str
    modalities: tuple[Modality, ...]
    needs: str
    takes_instruction: bool
    loader: str


_ROWS = (
    Family(
        name="cross-encoder",
        summary="any sentence-transformers CrossEncoder with one score a pair; reads the text of query and document",
        modalities=("text",),
        needs="a model: cross-encoder:FOLDER or cross-encoder:HUB_ID, with safetensors weights",
        takes_instruction=False,
        loader="mmseek.rerank.cross_encoder:load",
    ),
    Family(
        name="qwen3-vl-reranker",
        summary="Qwen3-VL-Reranker: a multimodal LLM's yes or no, for text, pictures and both on either side",
        modalities=("text", "image", "image,text"),
        needs="a model: qwen3-vl-reranker:FOLDER or qwen3-vl-reranker:HUB_ID",
        takes_instruction=True,
        loader="mmseek.rerank.qwen3_vl:load",
    ),
    Family(
        name="late-interaction",
        summary="late-interaction:ENCODER, MaxSim over an encoder's vectors of each token: colqwen2, colpali",
        modalities=("text", "image", "image,text"),
        needs="an encoder of many vectors an item: late-interaction:colqwen2:FOLDER",
        takes_instruction=False,
        loader="mmseek.rerank.late_interaction:load",
    ),
)

FAMILIES: Final[Mapping[str, Family]] = MappingProxyType({family.name: family for family in _ROWS})


def load_reranker(spec: str, *, device: str | None = None) -> Reranker:
    """Load a reranker by its spec, `family:model[@revision]`.

    Args:
        spec: see `FAMILIES` for the families.
        device: `cpu`, `cuda`, `cuda:1`, `mps` or `auto`; without it, the setting MMSEEK_DEVICE.

    Raises:
        SpecError: nothing answers to the spec.
        ModelError: the weights are missing or cannot be used.
        ConfigError: the device is not on this machine.
    """
    parsed = parse_spec(spec, FAMILIES, "reranker")
    module, _, function = FAMILIES[parsed.family].loader.partition(":")
    reranker: Reranker = getattr(import_module(module), function)(parsed, device=device)
    return reranker
