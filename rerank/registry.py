"""The families of rerankers: one row and one module each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from mmseek.models.families import Family, load_by_spec, table

if TYPE_CHECKING:
    from mmseek._types import Modality
    from mmseek.protocols import Reranker

__all__ = ["FAMILIES", "Family", "load_reranker"]

_ALL: tuple[Modality, ...] = ("text", "image", "image,text")


# A loader is called as `load(spec, *, device: str | None) -> Reranker`.
FAMILIES: Final[Mapping[str, Family]] = table(
    Family(
        name="mini",
        summary="needs no download: the mini encoder's score, shared words, and trained heads for pictures",
        modalities=("text", "image", "image,text"),
        needs="all-MiniLM-L6-v2, as the mini encoder does: pip install 'mmseek[mini]'",
        takes_instruction=False,
        loader="mmseek.rerank.mini.reranker:load",
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
        modalities=_ALL,
        needs="a model or an adapter: qwen3-vl-reranker:FOLDER or qwen3-vl-reranker:HUB_ID",
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
    Family(
        name="ragllava",
        summary="RagVL: is this picture, with its caption, relevant to the question? LLaVA, InternVL, Qwen-VL",
        modalities=_ALL,
        needs="a model or an adapter: ragllava:FOLDER or ragllava:HUB_ID, in transformers' own format",
        takes_instruction=True,
        loader="mmseek.rerank.ragllava:load",
    ),
    Family(
        name="mm-embed-zero-shot",
        summary="MM-Embed's second stage: LLaVA-NeXT, untrained, asked True or False in words that fit the task",
        modalities=_ALL,
        needs="a model: mm-embed-zero-shot:FOLDER or mm-embed-zero-shot:HUB_ID, a LLaVA-NeXT",
        takes_instruction=True,
        loader="mmseek.rerank.mm_embed_zero_shot:load",
    ),
    Family(
        name="jina-m0",
        summary="jina-reranker-m0 (CC-BY-NC): Qwen2-VL with a scoring network; texts and pictures of pages",
        modalities=_ALL,
        needs="a model: jina-m0:FOLDER or jina-m0:HUB_ID",
        takes_instruction=False,
        loader="mmseek.rerank.jina_m0:load",
    ),
    Family(
        name="monoqwen",
        summary="MonoQwen2-VL: a LoRA adapter on Qwen2-VL that says True or False of a page and a query",
        modalities=_ALL,
        needs="an adapter and the base model it names, or a whole model: monoqwen:FOLDER or monoqwen:HUB_ID",
        takes_instruction=False,
        loader="mmseek.rerank.monoqwen:load",
    ),
    Family(
        name="lamra",
        summary="LamRA-Rank, pointwise: Qwen2-VL or Qwen2.5-VL asked Yes or No about a query and a candidate",
        modalities=_ALL,
        needs="a model or an adapter: lamra:FOLDER or lamra:HUB_ID",
        takes_instruction=True,
        loader="mmseek.rerank.lamra:load",
    ),
    Family(
        name="lamra-listwise",
        summary="LamRA-Rank, listwise: which of up to five candidates fits best, in a chain of such lists",
        modalities=_ALL,
        needs="a model or an adapter: lamra-listwise:FOLDER or lamra-listwise:HUB_ID",
        takes_instruction=True,
        loader="mmseek.rerank.lamra_listwise:load",
    ),
)


def load_reranker(spec: str, *, device: str | None = None) -> Reranker:
    """Load a reranker by its spec, `family:model[@revision]`. Most callers want `mmseek.load_reranker`.

    Args:
        spec: see `FAMILIES` for the families.
        device: `cpu`, `cuda`, `cuda:1`, `mps` or `auto`; without it, the setting MMSEEK_DEVICE.

    Raises:
        SpecError: nothing answers to the spec.
        ModelError: the weights are missing or cannot be used.
        ConfigError: the device is not on this machine.
    """
    reranker: Reranker = load_by_spec(spec, FAMILIES, "reranker", device=device)
    return reranker
