"""The kinds of approximate index, and how each is laid out for a number of rows and a dimension.

Every kind only proposes rows; the proposals are scored again with the full vectors on disk. So `rescore`, how many are
proposed for each hit that is wanted, belongs to a plan as much as `effort`, how far the index looks.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from mmseek.errors import InputError

EXACT = "exact"
AUTO = "auto"
APPROXIMATE = ("hnsw", "ivf-sq8", "ivf-pq", "rabitq", "float16", "int8", "binary")
KINDS = (AUTO, EXACT, *APPROXIMATE)

_EXACT_NUMBERS = 8_000_000  # rows times dimensions up to which scoring everything takes a few milliseconds
_LINKS = 24  # neighbours a node of HNSW has; twice as many in its lowest layer
_EFFORTS = {
    "hnsw": (16, 32, 64, 128, 256, 512, 1024),
    "ivf-sq8": (4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256),
    "ivf-pq": (4, 8, 16, 32, 64, 128),
    "rabitq": (8, 16, 32, 64, 128, 256),
}
_RESCORES = {
    "hnsw": (2, 4),
    "ivf-sq8": (2, 4),
    "ivf-pq": (4, 10, 20, 40),
    "rabitq": (10, 20, 40, 80),
    "float16": (2,),
    "int8": (2, 4),
    "binary": (10, 20, 40, 80, 160),
}


# To look at a row in a list costs more with full bytes than by tables: shorter lists would only cost centroids.
_LISTS = {"ivf-sq8": 2, "ivf-pq": 4, "rabitq": 4}


@dataclass(frozen=True, slots=True)
class Plan:
    """How an index is built and searched.

    Args:
        kind: one of `APPROXIMATE`.
        factory: FAISS's description of the index; for `binary`, which FAISS keeps apart, empty.
        lists: lists of an inverted file, 0 where there is none.
        effort: efSearch of HNSW, nprobe of an inverted file; 0 where every row is looked at.
        rescore: proposals for each hit.
        scale: what a component is multiplied by to be compared as a byte; 0 where rows are not (`whole_bytes`).
    """

    kind: str
    factory: str
    lists: int
    effort: int
    rescore: int
    scale: float = 0.0

    @property
    def links(self) -> int:
        """Neighbours that a node of a graph has."""
        return _LINKS

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Plan:
        lists, effort, rescore = (int(body[name]) for name in ("lists", "effort", "rescore"))
        scale = float(body.get("scale", 0.0))  # builds of earlier versions have none
        plan = cls(str(body["kind"]), str(body["factory"]), lists, effort, rescore, scale)
        if plan.kind not in APPROXIMATE or plan.rescore < 1 or not 0 <= plan.scale < math.inf:
            raise ValueError(body)
        return plan

    def __str__(self) -> str:
        words = [self.kind, self.factory] if self.factory else [self.kind]
        if self.scale:
            words.append("whole bytes")
        if self.effort:
            words.append(f"{'efSearch' if self.kind == 'hnsw' else 'nprobe'} {self.effort}")
        return ", ".join([*words, f"rescore {self.rescore}x"])


def check_kind(kind: str) -> str:
    """The kind, if it is one.

    Raises:
        InputError: it is none; names those there are.
    """
    if kind not in KINDS:
        raise InputError(f"an index is of the kind {', '.join(KINDS[:-1])} or {KINDS[-1]}, not {kind!r}")
    return kind


def plan_for(kind: str, dim: int, rows: int) -> Plan:
    """The layout of a kind for so many rows, with its middle settings for searching.

    Raises:
        InputError: the kind is not one of `APPROXIMATE`.
    """
    if kind not in APPROXIMATE:
        raise InputError(f"an approximate index is of the kind {', '.join(APPROXIMATE)}, not {kind!r}")
    share = _LISTS.get(kind, 0)  # of the root of the rows
    lists = max(1, min(round(share * math.sqrt(rows)), rows // 40, 1 << 15)) if share else 0
    even = dim + dim % 2
    factory = {
        "hnsw": f"HNSW{_LINKS},SQ8",
        "ivf-sq8": f"IVF{lists},SQ8",
        # Half as many 4-bit codes as dimensions: a quarter of a byte a dimension.
        "ivf-pq": f"{f'Pad{even},' if even != dim else ''}IVF{lists},PQ{even // 2}x4fs",
        "rabitq": f"RR{dim},IVF{lists},RaBitQfs",
        "float16": "SQfp16",
        "int8": "SQ8",
        "binary": "",
    }[kind]
    efforts = _EFFORTS.get(kind, (0,))
    return Plan(kind, factory, lists, efforts[(len(efforts) - 1) // 2], _RESCORES[kind][len(_RESCORES[kind]) // 2])


def settings_of(plan: Plan) -> Iterator[Plan]:
    """The same layout searched with more and more care, about as costs rise."""
    efforts = [effort for effort in _EFFORTS.get(plan.kind, (0,)) if not plan.lists or effort < plan.lists]
    if plan.lists:
        efforts.append(plan.lists)
    rescores = _RESCORES[plan.kind]
    for step in range(len(efforts) + len(rescores) - 1):
        for turn, effort in enumerate(efforts):
            if 0 <= step - turn < len(rescores):
                yield replace(plan, effort=effort, rescore=rescores[step - turn])


def bytes_per_vector(kind: str, dim: int) -> float:
    """About what a kind keeps in memory for each vector, row numbers and places left out."""
    return {
        EXACT: 4.0 * dim,
        "hnsw": dim + 4.0 * 2 * _LINKS + 12,
        "ivf-sq8": dim + 8.0,
        "ivf-pq": (dim + 1) // 2 / 2 + 8.0,
        "rabitq": dim / 8 + 8.0 + 8.0,
        "float16": 2.0 * dim,
        "int8": 1.0 * dim,
        "binary": dim / 8,
    }[kind]


def kinds_to_try(kind: str, memory: int | None, dim: int, rows: int) -> list[str]:
    """For `auto`, the kinds that fit into memory, the quickest first; `exact` where that is quick enough.

    Args:
        kind: what was asked for; returned as it is unless it is `auto`.
        memory: bytes that the index may take; None for half of the machine's.
        dim: columns of a vector.
        rows: how many there are.
    """
    if kind != AUTO:
        return [kind]
    if rows * dim <= _EXACT_NUMBERS:
        return [EXACT]
    budget = memory if memory is not None else _half_of_memory()
    fitting = [name for name in ("hnsw", "ivf-sq8", "ivf-pq", "rabitq") if rows * bytes_per_vector(name, dim) <= budget]
    return fitting or ["rabitq"]


def _half_of_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf
        return 8 * 2**30
