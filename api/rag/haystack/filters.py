"""Haystack's filters as conditions of mmseek."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from haystack.errors import FilterError

from mmseek.api.rag import conditions
from mmseek.errors import InputError

__all__ = ["BadFilter", "to_filter"]

_ORDER: Final = frozenset({">", ">=", "<", "<="})
_EQUALITY: Final = frozenset({"==", "!="})
_MEMBERSHIP: Final = frozenset({"in", "not in"})
_NOT_HELD: Final = frozenset({"content", "blob", "embedding", "sparse_embedding", "score"})


class BadFilter(InputError, FilterError):  # type: ignore[misc]  # Haystack's types are not followed
    """A filter that cannot be read, or that mmseek cannot answer."""

    code = "bad_filter"


def to_filter(filters: Mapping[str, Any] | str | None) -> str | None:
    """Haystack's nested comparisons, or a condition of mmseek as it is.

    `meta.year`, or just `year`, is a field of the metadata; `id` is the document's. Dates are compared as the text they
    are kept as: write them in one form, `2020-01-31T12:00:00`.

    Raises:
        BadFilter: says which part.
    """
    if not filters:
        return None
    try:
        if isinstance(filters, str):
            return conditions.checked(filters)
        return conditions.checked(_condition(filters))
    except BadFilter:
        raise
    except InputError as error:
        raise BadFilter(str(error)) from error


def _condition(given: Any) -> str:
    if not isinstance(given, Mapping):
        raise BadFilter(f"a condition of a filter is a dictionary, not {type(given).__name__}")
    if "field" in given:
        return _comparison(given)
    for key in ("operator", "conditions"):
        if key not in given:
            raise BadFilter(f"a condition of a filter lacks {key!r}: {str(dict(given))[:200]}")
    if not isinstance(given["conditions"], list) or not given["conditions"]:
        raise BadFilter("the conditions of a filter are a list with at least one of them")
    parts = [_condition(each) for each in given["conditions"]]
    match given["operator"]:
        case "AND":
            return conditions.joined("and", parts)
        case "OR":
            return conditions.joined("or", parts)
        case "NOT":
            return f"not ({conditions.joined('and', parts)})"
    raise BadFilter(f"conditions are joined with AND, OR or NOT, not with {given['operator']!r}")


def _comparison(given: Mapping[str, Any]) -> str:
    for key in ("operator", "value"):
        if key not in given:
            raise BadFilter(f"a comparison of a filter lacks {key!r}: {str(dict(given))[:200]}")
    name, operator, value = _field(given["field"]), given["operator"], given["value"]
    if operator in _EQUALITY:
        return f"{name} {operator} {conditions.literal(_plain(value))}"
    if operator in _ORDER:
        return _ordered(name, operator, value)
    if operator in _MEMBERSHIP:
        if not isinstance(value, list):
            raise BadFilter(f"the operator {operator!r} takes a list, not {type(value).__name__}")
        found = conditions.one_of(name, [_plain(each) for each in value])
        return found if operator == "in" else f"not ({found})"
    raise BadFilter(f"there is no operator {operator!r}: use ==, !=, >, >=, <, <=, in or not in")


def _field(name: object) -> str:
    if not isinstance(name, str):
        raise BadFilter(f"the field of a filter is text, not {type(name).__name__}")
    if name == "id":
        return "id"
    if name in _NOT_HELD:
        raise BadFilter(f"documents are filtered by their meta and id, not by {name!r}")
    return conditions.field(name.removeprefix("meta."))


def _ordered(name: str, operator: str, value: object) -> str:
    value = _plain(value)
    if value is None:
        return conditions.NOTHING
    if isinstance(value, str) and not _is_date(value):
        raise BadFilter(f"{operator} compares numbers and ISO dates, not the text {value[:100]!r}")
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        raise BadFilter(f"{operator} compares numbers and ISO dates, not {type(value).__name__}")
    return f"{name} {operator} {conditions.literal(value)}"


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _is_date(value: str) -> bool:
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return not value.isdecimal()
