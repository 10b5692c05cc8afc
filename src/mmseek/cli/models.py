"""`mmseek models`: the families of encoders, what this machine has for them, and the families of rerankers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.util import find_spec
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
        from mmseek.models.device import memory_bytes, pick_device
        from mmseek.rerank import FAMILIES as RERANKERS

        found = {name: _PARTS.get(name, _no_parts)() for name in FAMILIES}
        device = pick_device()
        memory = memory_bytes(device)
        out.json(
            {
                "families": [_document(family, found[family.name], device, memory) for family in FAMILIES.values()],
                "rerankers": [_reranker_document(family) for family in RERANKERS.values()],
                "device": device,
                "memory_bytes": memory,
                "recommended": _recommended(FAMILIES),
            }
        )
        for family in FAMILIES.values():
            out.show(_table(family, found[family.name], device, memory))
        for reranker in RERANKERS.values():
            out.show(_reranker_table(reranker))
        out.show("\nrecommended (published figures, unless it says measured):")
        for each in _recommended(FAMILIES):
            out.show(f"  {each['machine']}: {each['spec']} ({each['why']})")
        out.show(f"\ndevice: {device}" + (f", {memory / 2**30:.0f} GiB of memory" if memory else ""))


def _recommended(families: Mapping[str, Family]) -> list[dict[str, str]]:
    """One encoder for each kind of machine, of the families that are there."""
    from mmseek.embed.published import RECOMMENDED

    return [
        {"machine": each.machine, "spec": each.spec, "why": each.why}
        for each in RECOMMENDED
        if each.spec.partition(":")[0] in families
    ]


def _published(family: Family, device: str, memory: int | None) -> list[dict[str, Any]]:
    """The family's published models, and whether this machine's device holds them; None where that is not known."""
    from mmseek.embed.published import PUBLISHED, fits

    # On a CPU the large ones may run in bfloat16 too, but float32 is what they get unless it is asked for.
    size = 2 if device.startswith("cuda") else 4
    return [
        {
            "model": model.model,
            "billion_parameters": model.billions,
            "dim": model.dim,
            "licence": model.licence,
            "gib_bfloat16": round(model.gib(2), 1),
            "gib_float32": round(model.gib(4), 1),
            "fits_here": None if memory is None else fits(model, memory, bytes_each=size),
        }
        for model in PUBLISHED.get(family.name, ())
    ]


def _cut(family: Family) -> str:
    from mmseek.embed.published import MATRYOSHKA

    if family.name in MATRYOSHKA:
        return f"trained for it, down to {MATRYOSHKA[family.name]} dimensions (published)"
    return "as the model was trained" if family.name in ("st", "auto") else "not trained for it"


def _backends(family: Family) -> str:
    if "openvino" not in family.backends:
        return "torch"
    here = "installed" if find_spec("openvino") is not None else "needs pip install 'mmseek[openvino]'"
    return f"torch; openvino on a CPU ({here})"


def _document(family: Family, parts: Mapping[str, str | None], device: str, memory: int | None) -> dict[str, Any]:
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
        "truncate_dim": _cut(family),
        "backends": list(family.backends),
        "visual_tokens": family.visual_tokens,
        "published": _published(family, device, memory),
    }


def _table(family: Family, parts: Mapping[str, str | None], device: str, memory: int | None) -> Any:
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
    table.add_row("  --truncate-dim", Text(_cut(family)))
    table.add_row("  --backend", Text(_backends(family)))
    if family.visual_tokens:
        table.add_row("  --visual-tokens", Text("a share or a number of each picture's tokens; the vectors are others"))
    for model in _published(family, device, memory):
        here = {True: "fits here", False: "too large for this machine", None: ""}[model["fits_here"]]
        words = [f"{model['dim']}-d", f"{model['gib_bfloat16']} GiB in bfloat16, {model['gib_float32']} in float32"]
        words += [model["licence"], *([here] if here else [])]
        table.add_row("  published", Text(f"{model['model']}: {', '.join(words)}"))
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
    "jina-v4-multi": _no_parts,
    "notellm2": _no_parts,
    "colqwen2": _no_parts,
    "colpali": _no_parts,
    "biqwen2": _no_parts,
    "bge-vl": _no_parts,
    "uniir-clip-ff": _no_parts,
}
