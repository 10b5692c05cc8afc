"""A document's metadata as Qdrant can ask about it with exactly the meaning of `mmseek.filters`.

Qdrant's own conditions on a payload look into lists and know other types than our filters do. So every field becomes
facts, hashes of "this field is there", "this field equals this", "this list has this in it", in one list of keywords
with one index: equality, membership, lists and existence are each the question whether a fact is there. Numbers stand
beside them for ranges, and strings for what Qdrant cannot say at all.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from mmseek.filters import Field

FactKind: TypeAlias = Literal["is", "has", "there", "number", "string"]

EXACT = 2**53  # up to here floats hold every whole number


def describe(item: str, reserved: dict[str, str | None]) -> dict[str, Any]:
    """The parts of a payload that filters ask: `facts`, `nums` and `strs`.

    Args:
        item: the stored document, as `codec` writes it.
        reserved: `id`, `modality` and `parent_id`.
    """
    facts: set[str] = set()
    nums: dict[str, int | float] = {}
    strs: dict[str, str] = {}
    own = [(Field((name,), reserved=True), value) for name, value in reserved.items()]
    for field, value in [*own, *_fields(json.loads(item)["metadata"])]:
        if value is None:
            continue
        facts.add(fact(field, "there"))
        if isinstance(value, list):
            facts.update(fact(field, "has", one) for one in value if _is_scalar(one))
        elif _is_scalar(value):
            facts.add(fact(field, "is", value))
            if isinstance(value, str):
                facts.add(fact(field, "string"))
                strs[field_key(field)] = value.encode("utf-8", "replace").decode()
            elif not isinstance(value, bool):
                facts.add(fact(field, "number"))
                nums[field_key(field)] = held(value)
    return {"facts": sorted(facts), "nums": nums, "strs": strs}


@lru_cache(maxsize=8192, typed=True)  # true, 1 and 1.0 are equal to a plain cache
def fact(field: Field, kind: FactKind, value: object = None) -> str:
    """The hash that says this of a field; equal numbers have one, whatever their type."""
    said: Any = value
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = held(value)
        said = ["number", str(int(number)) if number == math.floor(number) else repr(number)]
    text = json.dumps([field.reserved, field.path, kind, said])
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


@lru_cache(maxsize=8192)
def field_key(field: Field) -> str:
    """The name of a field in `nums` and `strs`: one that needs no quotes in Qdrant's paths."""
    text = json.dumps([field.reserved, field.path])
    return "k" + hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def held(value: float) -> float:
    """A number as the stores hold it: whole numbers beyond 64 bits are floats."""
    return float(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | int | float)


def _fields(metadata: dict[str, Any]) -> Iterator[tuple[Field, Any]]:
    """Every field at any depth, without recursion: metadata may be nested as deep as JSON allows."""
    waiting: list[tuple[Sequence[str], Any]] = [((name,), value) for name, value in metadata.items()]
    while waiting:
        path, value = waiting.pop()
        yield Field(tuple(path)), value
        if isinstance(value, dict):
            waiting += [((*path, name), inner) for name, inner in value.items()]
