"""A filter as a condition on the table of documents. Values and names are parameters, never part of the SQL."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection as Container
from collections.abc import Sequence
from typing import NamedTuple

from mmseek.filters import And, Compare, Contains, Exists, Expression, Field, Not, OneOf, Or, Value, parse_filter

_MOST_REMEMBERED = 1000  # characters
_NUMBER = "('integer', 'real')"
# Every test is 0 or 1, never NULL, so that NOT turns it around: a missing field has the type ''.
_TYPE = "ifnull(json_type(item, ?), '')"


class Condition(NamedTuple):
    """What stands after WHERE, and its parameters."""

    sql: str
    parameters: list[Value]


def compile_filter(text: str) -> Condition:
    """The condition that a filter's text says.

    Raises:
        InputError: it is no filter; names the column.
    """
    return _compiled(text) if len(text) <= _MOST_REMEMBERED else _compile(parse_filter(text), wanted=True)


@functools.lru_cache(maxsize=256)
def _compiled(text: str) -> Condition:
    """The same filter is asked again and again, and reading it takes as long as a small search."""
    return _compile(parse_filter(text), wanted=True)


def restrict(candidates: Container[str] | None, exclude: Container[str], text: str | None) -> Condition | None:
    """The condition that documents may be found under, or None for all; `text` is a filter.

    Raises:
        InputError: the filter is none.
    """
    conditions = []
    if candidates is not None:
        conditions.append(Condition("id IN (SELECT value FROM json_each(?))", [json.dumps(list(candidates))]))
    if exclude:
        conditions.append(Condition("id NOT IN (SELECT value FROM json_each(?))", [json.dumps(list(exclude))]))
    if text is not None:
        conditions.append(compile_filter(text))
    return _joined(conditions, " AND ") if conditions else None


def _compile(expression: Expression, *, wanted: bool) -> Condition:
    """NOT is moved down to the tests, which keeps the SQL as flat as SQLite's parser wants it."""
    if isinstance(expression, Not):
        return _compile(expression.part, wanted=not wanted)
    if isinstance(expression, And | Or):
        word = " AND " if isinstance(expression, And) == wanted else " OR "
        return _joined([_compile(part, wanted=wanted) for part in expression.parts], word)
    test = _test(expression)
    return test if wanted else Condition(f"NOT ({test.sql})", test.parameters)


def _test(expression: Compare | OneOf | Contains | Exists) -> Condition:
    if isinstance(expression, Exists):
        if expression.field.reserved:
            return Condition(f"{_column(expression.field)} IS NOT NULL", [])
        return Condition(f"{_TYPE} NOT IN ('', 'null')", [_path(expression.field)])
    if isinstance(expression, Contains):
        return _contains(expression.field, expression.value)
    if isinstance(expression, Compare):
        return _compare(expression.field, "=" if expression.operator == "==" else expression.operator, expression.value)
    return _one_of(expression.field, expression.values)


def _compare(field: Field, operator: str, value: Value) -> Condition:
    if field.reserved:
        if not isinstance(value, str):
            return Condition("0", [])
        return Condition(f"ifnull({_column(field)} {operator} ?, 0)", [value])
    path = _path(field)
    if isinstance(value, bool):
        return Condition(f"{_TYPE} = ?", [path, "true" if value else "false"])
    kind = "= 'text'" if isinstance(value, str) else f"IN {_NUMBER}"
    return Condition(f"({_TYPE} {kind} AND json_extract(item, ?) {operator} ?)", [path, path, value])


def _one_of(field: Field, values: Sequence[Value]) -> Condition:
    strings = [value for value in values if isinstance(value, str)]
    numbers = [value for value in values if not isinstance(value, str | bool)]
    path = _path(field)
    tests = [_compare(field, "=", value) for value in values if isinstance(value, bool)]
    if field.reserved:
        return Condition(f"ifnull({_column(field)} IN ({_marks(strings)}), 0)", [*strings])
    for kind, some in (("= 'text'", strings), (f"IN {_NUMBER}", numbers)):
        if some:
            sql = f"({_TYPE} {kind} AND json_extract(item, ?) IN ({_marks(some)}))"
            tests.append(Condition(sql, [path, path, *some]))
    return _joined(tests, " OR ")


def _contains(field: Field, value: Value) -> Condition:
    if field.reserved:
        if not isinstance(value, str):
            return Condition("0", [])
        return Condition(f"ifnull(instr({_column(field)}, ?) > 0, 0)", [value])
    path = _path(field)
    if isinstance(value, bool):
        test, parameters = "part.type = ?", list[Value](["true" if value else "false"])
    else:
        kind = "= 'text'" if isinstance(value, str) else f"IN {_NUMBER}"
        test, parameters = f"part.type {kind} AND part.value = ?", [value]
    inside = Condition(
        f"({_TYPE} = 'array' AND EXISTS (SELECT 1 FROM json_each(item, ?) AS part WHERE {test}))",  # noqa: S608  # of constants
        [path, path, *parameters],
    )
    if not isinstance(value, str):
        return inside
    within = Condition(f"({_TYPE} = 'text' AND instr(json_extract(item, ?), ?) > 0)", [path, path, value])
    return _joined([within, inside], " OR ")


def _joined(conditions: Sequence[Condition], word: str) -> Condition:
    sql = word.join(condition.sql for condition in conditions)
    return Condition(f"({sql})", [value for condition in conditions for value in condition.parameters])


def _column(field: Field) -> str:
    return {"id": "documents.id", "modality": "documents.modality", "parent_id": "documents.parent_id"}[field.path[0]]


def _path(field: Field) -> str:
    """SQLite's path; the parser lets nothing into a name that would end the quotes."""
    return "$.metadata" + "".join(f'."{name}"' for name in field.path)


def _marks(values: Sequence[Value]) -> str:
    return ", ".join("?" * len(values))
