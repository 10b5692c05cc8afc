"""Conditions on a document's metadata: `modality == "image" and year >= 2020 and tags contains "map"`.

    condition  = all ("or" all)*
    all        = one ("and" one)*
    one        = "not" one | "(" condition ")" | field test
    test       = ("==" | "!=" | "<" | "<=" | ">" | ">=") value | ["not"] "in" "[" value ("," value)* "]"
               | ["not"] "contains" value | "exists"
    field      = name ("." name)*        a name in backticks may hold anything, and is never a reserved one
    value      = "string" | 'string' | number | true | false | null

`parse_filter` gives a tree that every kind of collection translates for its store; what the tree means is the same
everywhere. A test of a field that is missing, null, or of another type than the value is false; `!=`, `not in` and
`not contains` are true wherever the test without the `not` is false.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from mmseek.errors import InputError

__all__ = ["And", "Compare", "Contains", "Exists", "Expression", "Field", "Not", "OneOf", "Or", "parse_filter"]

MAX_LENGTH = 8000
MAX_DEPTH = 20
MAX_TESTS = 200
RESERVED = frozenset({"id", "modality", "parent_id"})

Value: TypeAlias = str | int | float | bool
Operator: TypeAlias = Literal["==", "<", "<=", ">", ">="]


@dataclass(frozen=True, slots=True)
class Field:
    """A place in the metadata, or, if reserved, what the document itself says: `id`, `modality` or `parent_id`."""

    path: tuple[str, ...]
    reserved: bool = False


@dataclass(frozen=True, slots=True)
class Compare:
    """The field's value has the value's type, and compares so. Numbers are one type; strings go by code point."""

    field: Field
    operator: Operator
    value: Value


@dataclass(frozen=True, slots=True)
class OneOf:
    """The field equals one of the values."""

    field: Field
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Contains:
    """The field is a list with this value in it, or a string with this string in it."""

    field: Field
    value: Value


@dataclass(frozen=True, slots=True)
class Exists:
    """The field is there and not null."""

    field: Field


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: Expression


@dataclass(frozen=True, slots=True)
class And:
    """All parts hold."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one part holds."""

    parts: tuple[Expression, ...]


Expression: TypeAlias = Compare | OneOf | Contains | Exists | Not | And | Or


def parse_filter(text: str) -> Expression:
    """Read a condition.

    Raises:
        InputError: it is none, or too long or too deep; names the column, counted from 1.
    """
    if len(text) > MAX_LENGTH:
        raise InputError(f"the filter has {len(text)} characters, and {MAX_LENGTH} are the most: make it shorter")
    return _Parser(_tokens(text)).whole()


class _Token(NamedTuple):
    kind: str
    text: str
    column: int


_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.]))
      | (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<quoted>`[^`]*`)
      | (?P<word>[^\W\d][\w-]*)
      | (?P<sign>==|!=|<=|>=|[<>()\[\],.])""",
    re.VERBOSE | re.DOTALL,
)
_KEYWORDS = frozenset({"and", "or", "not", "in", "contains", "exists", "true", "false", "null"})
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise _error(place + 1, _complaint(text[place]))
        kind, piece = match.lastgroup or "", match.group()
        if kind == "word" and piece.lower() in _KEYWORDS:
            kind, piece = "keyword", piece.lower()
        if kind != "space":
            found.append(_Token(kind, piece, place + 1))
        place = match.end()
    found.append(_Token("end", "", len(text) + 1))
    return found


def _complaint(character: str) -> str:
    if character in "\"'`":
        return f"the text that {character} opens is not closed"
    if character == "=":
        return "a single = means nothing here: equality is =="
    return f"{character!r} does not belong in a filter"


def _error(column: int, what: str) -> InputError:
    return InputError(f"filter, column {column}: {what}")


class _Parser:
    """Recursive descent over the tokens."""

    def __init__(self, tokens: Sequence[_Token]) -> None:
        self._tokens = tokens
        self._place = 0
        self._depth = 0
        self._tests = 0

    def whole(self) -> Expression:
        expression = self._condition()
        if self._next.kind != "end":
            raise self._unexpected("and, or, or the end")
        return expression

    @property
    def _next(self) -> _Token:
        return self._tokens[self._place]

    def _take(self) -> _Token:
        token = self._next
        self._place += token.kind != "end"
        return token

    def _accept(self, *texts: str) -> bool:
        if self._next.kind in {"sign", "keyword"} and self._next.text in texts:
            self._take()
            return True
        return False

    def _expect(self, text: str, wanted: str) -> None:
        if not self._accept(text):
            raise self._unexpected(wanted)

    def _unexpected(self, wanted: str) -> InputError:
        token = self._next
        found = "the filter ends" if token.kind == "end" else f"there is {token.text!r}"
        return _error(token.column, f"{wanted} is expected, but {found}")

    def _condition(self) -> Expression:
        parts = [self._all()]
        while self._accept("or"):
            parts.append(self._all())
        return Or(tuple(parts)) if len(parts) > 1 else parts[0]

    def _all(self) -> Expression:
        parts = [self._one()]
        while self._accept("and"):
            parts.append(self._one())
        return And(tuple(parts)) if len(parts) > 1 else parts[0]

    def _one(self) -> Expression:
        column = self._next.column
        if self._next.text not in {"not", "("} or self._next.kind not in {"sign", "keyword"}:
            return self._test()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _error(column, f"parentheses and nots stand more than {MAX_DEPTH} deep: write it flatter")
        if self._accept("not"):
            expression: Expression = Not(self._one())
        else:
            self._take()
            expression = self._condition()
            self._expect(")", "and, or, or )")
        self._depth -= 1
        return expression

    def _test(self) -> Expression:
        column = self._next.column
        field = self._field()
        self._tests += 1
        if self._tests > MAX_TESTS:
            raise _error(column, f"there are more than {MAX_TESTS} tests: use `in [...]`, or fewer of them")
        if self._accept("exists"):
            return Exists(field)
        negated = self._accept("not")
        test = self._membership(field) if self._next.kind == "keyword" else None
        if test is None:
            if negated or self._next.text not in {"==", "!=", "<", "<=", ">", ">="}:
                raise self._unexpected("in or contains" if negated else "==, !=, <, <=, >, >=, in, contains or exists")
            return self._comparison(field)
        return Not(test) if negated else test

    def _membership(self, field: Field) -> Expression | None:
        if self._accept("contains"):
            return Contains(field, self._plain_value("contains"))
        if not self._accept("in"):
            return None
        self._expect("[", "a list, as in [1, 2],")
        values = [self._plain_value("in")]
        while self._accept(","):
            values.append(self._plain_value("in"))
        self._expect("]", "a comma or ]")
        return OneOf(field, tuple(values))

    def _comparison(self, field: Field) -> Expression:
        sign = self._take().text
        column = self._next.column
        value = self._value()
        if sign in {"==", "!="}:
            # Missing and null are one and the same, so equality with null is a question of existence.
            equal: Expression = Not(Exists(field)) if value is None else Compare(field, "==", value)
            return equal if sign == "==" else Not(equal)
        if value is None or isinstance(value, bool):
            raise _error(column, f"only numbers and strings have an order that {sign} could ask for")
        return Compare(field, sign, value)  # type: ignore[arg-type]  # one of the four that are left

    def _field(self) -> Field:
        first = self._next.kind
        names = [self._name()]
        while self._accept("."):
            names.append(self._name())
        return Field(tuple(names), reserved=first == "word" and len(names) == 1 and names[0] in RESERVED)

    def _name(self) -> str:
        if self._next.kind not in {"word", "quoted"}:
            raise self._unexpected("the name of a field")
        token = self._take()
        name = token.text.strip("`")
        if not name or not name.isprintable() or '"' in name or "\\" in name:
            raise _error(token.column, "a name has printable characters, and neither a backslash nor a double quote")
        return name

    def _plain_value(self, after: str) -> Value:
        column = self._next.column
        value = self._value()
        if value is None:
            raise _error(column, f"{after} takes no null: ask for `exists` instead")
        return value

    def _value(self) -> Value | None:
        token = self._next
        if token.kind == "keyword" and token.text in {"true", "false", "null"}:
            return {"true": True, "false": False, "null": None}[self._take().text]
        if token.kind not in {"string", "number"}:
            raise self._unexpected('a value (a number, a "string", true, false or null)')
        self._take()
        return _string(token) if token.kind == "string" else _number(token)


def _string(token: _Token) -> str:
    for escape in _ESCAPE.finditer(token.text[1:-1]):
        if escape[1] not in "\\\"'":
            raise _error(token.column + 1 + escape.start(), "a backslash stands only before \\, \" or '")
    text = _ESCAPE.sub(r"\1", token.text[1:-1])
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _error(token.column, "this string is not valid Unicode") from None
    return text


def _number(token: _Token) -> int | float:
    value = float(token.text)
    if value in {float("inf"), float("-inf")}:
        raise _error(token.column, "this number is too large")
    # Whole numbers beyond 64 bits are compared as the stores hold them: as floats.
    whole = int(token.text) if token.text.lstrip("-").isdecimal() and len(token.text) < 21 else None
    return whole if whole is not None and -(2**63) <= whole < 2**63 else value
