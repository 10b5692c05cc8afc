"""A filter as Qdrant's conditions over the facts of documents.

What Qdrant cannot say exactly (the order of strings, a string inside a string, numbers beyond 2**53) is answered here:
the documents that have the field at all are read, and those that the test holds for are named by their points.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from operator import ge, gt, le, lt
from typing import Any

from mmseek.filters import And, Compare, Contains, Exists, Expression, Field, Not, OneOf, Or, Value, parse_filter
from mmseek.index.qdrant.facts import EXACT, FactKind, fact, field_key
from mmseek.index.qdrant.store import Condition, point_id

ReadField = Callable[[Condition, str], Iterator[tuple[str, Any]]]
"""(which documents, a field of the payload) -> their points and the field's values."""

NOTHING: Condition = {"has_id": []}
_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {"<": lt, "<=": le, ">": gt, ">=": ge}
_RANGES = {"<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}


def restrict(
    candidates: Collection[str] | None, exclude: Collection[str], text: str | None, read: ReadField
) -> Condition | None:
    """The condition that documents may be found under, or None for all; `text` is a filter.

    Raises:
        InputError: the filter is none.
    """
    must: list[Condition] = []
    if text is not None:
        must.append(compile_filter(parse_filter(text), _once(read)))
    if candidates is not None:
        must.append({"has_id": [point_id(name) for name in candidates]})
    whole: dict[str, Any] = {"must": must} if must else {}
    if exclude:
        whole["must_not"] = [{"has_id": [point_id(name) for name in exclude]}]
    return whole or None


def compile_filter(expression: Expression, read: ReadField) -> Condition:
    """The condition that holds for the documents that the expression holds for."""
    if isinstance(expression, Not):
        return {"must_not": [compile_filter(expression.part, read)]}
    if isinstance(expression, And | Or):
        word = "must" if isinstance(expression, And) else "should"
        return {word: [compile_filter(part, read) for part in expression.parts]}
    if isinstance(expression, Exists):
        return _says(expression.field, "there")
    if isinstance(expression, OneOf):
        return {"key": "facts", "match": {"any": [fact(expression.field, "is", one) for one in expression.values]}}
    if isinstance(expression, Contains):
        return _contains(expression, read)
    return _compare(expression, read)


def _once(read: ReadField) -> ReadField:
    """The same, asking once for a field that several tests of a filter need."""
    known: dict[str, list[tuple[str, Any]]] = {}

    def remembered(where: Condition, field: str) -> Iterator[tuple[str, Any]]:
        if field not in known:
            known[field] = list(read(where, field))
        return iter(known[field])

    return remembered


def _says(field: Field, kind: FactKind, value: Value | None = None) -> Condition:
    return {"key": "facts", "match": {"value": fact(field, kind, value)}}


def _contains(test: Contains, read: ReadField) -> Condition:
    listed = _says(test.field, "has", test.value)
    wanted = test.value
    if not isinstance(wanted, str):
        return listed
    strings = read(_says(test.field, "string"), f"strs.{field_key(test.field)}")
    inside: Condition = {"has_id": [point for point, text in strings if wanted in text]}
    return {"should": [listed, inside]}


def _compare(test: Compare, read: ReadField) -> Condition:
    if test.operator == "==":
        return _says(test.field, "is", test.value)
    key, value = field_key(test.field), test.value
    if isinstance(value, str):
        found = read(_says(test.field, "string"), f"strs.{key}")
    elif abs(value) < EXACT:
        return {"key": f"nums.{key}", "range": {_RANGES[test.operator]: float(value)}}
    else:
        found = read(_says(test.field, "number"), f"nums.{key}")
    holds = _ORDERS[test.operator]
    return {"has_id": [point for point, stored in found if holds(stored, value)]}
