"""`mmseek models`: the families of encoders, what this machine has for them, and the families of rerankers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mmseek.cli.options import JsonOption
from mmseek.cli.output import verb_output

if TYPE_CHECKING:
    from mmseek.embed import Family
    from mmseek.rerank import Family as RerankerFamily

_KINDS = {"text": "text", "image": "pictures", "image,text": "both together"}


def models(as_json: JsonOption = False) -> None:
    """List the families of encoders, what of them is on this machine, and the families of rerankers.

    A spec names a family, or a family and a model: mini, or mini:FOLDER.
    """
    with verb_output(as_json) as out:
        from mmseek.embed import FAMILIES
        from mmseek.models.device import pick_device
        from mmseek.rerank import FAMILIES as RERANKERS

        found = {name: _PARTS[name]() for name in FAMILIES}
        device = pick_device()
        out.json(
            {
                "families": [_document(family, found[family.name]) for family in FAMILIES.values()],
                "rerankers": [_reranker_document(family) for family in RERANKERS.values()],
                "device": device,
            }
        )
        for family in FAMILIES.values():
            out.show(_table(family, found[family.name]))
        for reranker in RERANKERS.values():
            out.show(_reranker_table(reranker))
        out.show(f"\ndevice: {device}")


def _document(family: Family, parts: Mapping[str, str | None]) -> dict[str, Any]:
    return {
        "name": family.name,
        "summary": family.summary,
        "modalities": list(family.modalities),
        "dim": family.dim,
        "takes_instruction": family.takes_instruction,
        "licence": family.licence,
        "needs": family.needs,
        "ready": None not in parts.values(),
        "parts": dict(parts),
    }


def _table(family: Family, parts: Mapping[str, str | None]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    ready = None not in parts.values()
    table.add_row(family.name, Text(family.summary))
    for name, value in {
        "encodes": ", ".join(_KINDS[kind] for kind in family.modalities) + (f" ({family.dim}-d)" if family.dim else ""),
        "instructions": "followed" if family.takes_instruction else "not used",
        "licence": family.licence,
        "here": "ready" if ready else f"not ready; it needs: {family.needs}",
    }.items():
        table.add_row(f"  {name}", Text(value))
    for part, place in parts.items():
        table.add_row(f"  {part}", Text(place or "not found"))
    return table


def _reranker_document(family: RerankerFamily) -> dict[str, Any]:
    return {
        "name": family.name,
        "summary": family.summary,
        "modalities": list(family.modalities),
        "takes_instruction": family.takes_instruction,
        "needs": family.needs,
    }


def _reranker_table(family: RerankerFamily) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row(family.name, Text(f"reranker: {family.summary}"))
    table.add_row("  reads", Text(", ".join(_KINDS[kind] for kind in family.modalities)))
    table.add_row("  instructions", Text("followed" if family.takes_instruction else "not used"))
    table.add_row("  needs", Text(family.needs))
    return table


def _mini_parts() -> dict[str, str | None]:
    from mmseek.embed.mini.pictures import TOWER_FILE
    from mmseek.embed.mini.weights import local_text_model

    text = local_text_model()
    return {
        "text weights": None if text is None else str(text),
        "image weights": str(TOWER_FILE) if TOWER_FILE.is_file() else None,
    }


def _no_parts() -> dict[str, str | None]:
    """Of a family whose spec names the model: nothing can be missing before there is a spec."""
    return {}


# What each family needs on this machine, and where it was found; nothing is loaded and the hub is not asked.
_PARTS: dict[str, Callable[[], dict[str, str | None]]] = {
    "mini": _mini_parts,
    "clip": _no_parts,
    "uniir-clip-sf": _no_parts,
    "vlm2vec": _no_parts,
    "qwen3-vl": _no_parts,
    "gme": _no_parts,
    "st": _no_parts,
    "auto": _no_parts,
    "mm-embed": _no_parts,
    "e5-v": _no_parts,
    "mme5": _no_parts,
    "jina-v4": _no_parts,
    "notellm2": _no_parts,
    "colqwen2": _no_parts,
    "colpali": _no_parts,
    "biqwen2": _no_parts,
    "bge-vl": _no_parts,
    "uniir-clip-ff": _no_parts,
}
