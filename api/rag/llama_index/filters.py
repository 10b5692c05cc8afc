"""LlamaIndex's metadata filters as conditions of mmseek."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilters

from mmseek.api.rag import conditions
from mmseek.errors import InputError

_SIGNS: Final = {
    FilterOperator.EQ: "==",
    FilterOperator.NE: "!=",
    FilterOperator.GT: ">",
    FilterOperator.GTE: ">=",
    FilterOperator.LT: "<",
    FilterOperator.LTE: "<=",
    FilterOperator.CONTAINS: "contains",
    FilterOperator.TEXT_MATCH: "contains",
}


def to_filter(given: str | Mapping[str, Any] | MetadataFilters | None) -> str | None:
    """A condition as it is, a mapping of fields to values, or LlamaIndex's filters.

    Raises:
        InputError: it cannot be said in mmseek's language.
    """
    if isinstance(given, MetadataFilters):
        return conditions.checked(_all(given)) or None
    return conditions.as_filter(given)


def _all(filters: MetadataFilters) -> str:
    parts = [_all(each) if isinstance(each, MetadataFilters) else _one(each) for each in filters.filters]
    if filters.condition == FilterCondition.NOT:
        return f"not ({conditions.joined('or', parts)})" if parts else ""
    return conditions.joined("or" if filters.condition == FilterCondition.OR else "and", parts)


def _one(test: Any) -> str:
    name = conditions.field(test.key)
    if test.operator in _SIGNS:
        return f"{name} {_SIGNS[test.operator]} {conditions.literal(test.value)}"
    if test.operator == FilterOperator.IS_EMPTY:
        return f"{name} == null"
    several = _SEVERAL.get(test.operator)
    if several is None:
        raise InputError(f"the operator {test.operator.value!r} has no counterpart in mmseek's filters")
    if not isinstance(test.value, list):
        raise InputError(f"the operator {test.operator.value!r} takes a list, not {type(test.value).__name__}")
    return several(name, test.value)


def _contains(word: str) -> Callable[[str, list[Any]], str]:
    def test(name: str, values: list[Any]) -> str:
        parts = [f"{name} contains {conditions.literal(value)}" for value in values]
        return conditions.joined(word, parts) or conditions.NOTHING

    return test


_SEVERAL: Final[dict[FilterOperator, Callable[[str, list[Any]], str]]] = {
    FilterOperator.IN: conditions.one_of,
    FilterOperator.NIN: lambda name, values: f"not ({conditions.one_of(name, values)})",
    FilterOperator.ANY: _contains("or"),
    FilterOperator.ALL: _contains("and"),
}
