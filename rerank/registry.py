"""The families of rerankers: one row and one module each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from mmseek.errors import SpecError
from mmseek.models.spec import Spec, parse_spec

if TYPE_CHECKING:
    from mmseek._types import Modality
    from mmseek.protocols import Reranker

__all__ = ["FAMILIES", "Family", "Towers", "load_reranker"]

# Makes what a family stands on: of a spec and a device.
Towers: TypeAlias = Callable[[Spec, str | None], Any]


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
        needs_towers: whether it stands on an encoder; then `load` is also given `towers`, what the caller of
            `load_reranker` made for the spec. The rooms do not know each other, so `mmseek.pipeline` does that.
    """

    name: str
    summary: str
    modalities: tuple[Modality, ...]
    needs: str
    takes_instruction: bool
    loader: str
    needs_towers: bool = False


_ROWS = (
    Family(
        name="mini",
        summary="needs no download: the mini encoder's score, shared words, and trained heads for pictures",
        modalities=("text", "image", "image,text"),
        needs="all-MiniLM-L6-v2, as the mini encoder does: pip install 'mmseek[mini]'",
        takes_instruction=False,
        loader="mmseek.rerank.mini.reranker:load",
        needs_towers=True,
    ),
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
)

FAMILIES: Final[Mapping[str, Family]] = MappingProxyType({family.name: family for family in _ROWS})


def load_reranker(spec: str, *, device: str | None = None, towers: Towers | None = None) -> Reranker:
    """Load a reranker by its spec, `family:model[@revision]`. Most callers want `mmseek.load_reranker`.

    Args:
        spec: see `FAMILIES` for the families.
        device: `cpu`, `cuda`, `cuda:1`, `mps` or `auto`; without it, the setting MMSEEK_DEVICE.
        towers: makes what a family stands on, for those that stand on an encoder; called with the spec and the device.

    Raises:
        SpecError: nothing answers to the spec.
        ModelError: the weights are missing or cannot be used.
        ConfigError: the device is not on this machine.
    """
    parsed = parse_spec(spec, FAMILIES, "reranker")
    family = FAMILIES[parsed.family]
    if family.needs_towers and towers is None:
        raise SpecError(
            f"the reranker {parsed.family} stands on an encoder: load it with mmseek.load_reranker({spec!r})"
        )
    module, _, function = family.loader.partition(":")
    given = {"towers": towers(parsed, device)} if family.needs_towers and towers is not None else {}
    reranker: Reranker = getattr(import_module(module), function)(parsed, device=device, **given)
    return reranker
