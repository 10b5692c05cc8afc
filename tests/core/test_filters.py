"""The language of filters: what is read, and how it says no."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmseek.errors import InputError
from mmseek.filters import MAX_LENGTH, And, Compare, Contains, Exists, Field, Not, OneOf, Or, parse_filter


def field(*path: str) -> Field:
    return Field(path)


def test_the_example():
    assert parse_filter('modality == "image" and year >= 2020 and tags contains "map"') == And(
        (
            Compare(Field(("modality",), reserved=True), "==", "image"),
            Compare(field("year"), ">=", 2020),
            Contains(field("tags"), "map"),
        )
    )


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a == 1 or b == 2 and c == 3", "a == 1 or (b == 2 and c == 3)"),
        ("not a == 1 and b == 2", "(not a == 1) and b == 2"),
        ("A == 1 AND b EXISTS", "A == 1 and b exists"),
        ("((a\n==\t1))", "a==1"),
        ("a != 1", "not a == 1"),
        ("a not in [1, 2]", "not a in [1,2]"),
        ("a not contains 'x'", 'not a contains "x"'),
        ("a == null", "not a exists"),
        ("a != null", "not not a exists"),
    ],
)
def test_equal_texts(text, tree):
    assert parse_filter(text) == parse_filter(tree)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a.b-c.`d e` == true", Compare(field("a", "b-c", "d e"), "==", True)),
        ("`id` == 'x'", Compare(field("id"), "==", "x")),
        ("id.x == 'x'", Compare(field("id", "x"), "==", "x")),
        ("größe < -1.5e3", Compare(field("größe"), "<", -1500.0)),
        (r"""a == "\"\\\'" """, Compare(field("a"), "==", "\"\\'")),
        ("a == '\"'", Compare(field("a"), "==", '"')),
        ("a in ['x', 1, false]", OneOf(field("a"), ("x", 1, False))),
        ("a == 9223372036854775807", Compare(field("a"), "==", 2**63 - 1)),
        ("a == 9223372036854775808", Compare(field("a"), "==", float(2**63))),
        ("a exists or b exists", Or((Exists(field("a")), Exists(field("b"))))),
        ("not not a exists", Not(Not(Exists(field("a"))))),
    ],
)
def test_trees(text, tree):
    assert parse_filter(text) == tree


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "column 1: the name of a field is expected, but the filter ends"),
        ("a", "column 2: ==, !=, <, <=, >, >=, in, contains or exists is expected, but the filter ends"),
        ("a ==", "column 5: a value"),
        ("a = 1", "column 3: a single ="),
        ("a == 1 b", "column 8: and, or, or the end is expected, but there is 'b'"),
        ("(a == 1", "column 8: and, or, or \\)"),
        ("a == 'x", "column 6: the text that ' opens is not closed"),
        ("a == 'x\\n'", "column 8: a backslash"),
        ("a == '\ud800'", "column 6: this string is not valid Unicode"),
        ("a < true", "column 5: only numbers and strings"),
        ("a < null", "column 5: only numbers and strings"),
        ("a in [null]", "column 7: in takes no null"),
        ("a in []", "column 7: a value"),
        ("a in [1 2]", "column 9: a comma or ]"),
        ("a in 1", "column 6: a list"),
        ("a contains null", "column 12: contains takes no null"),
        ("a not exists", "column 7: in or contains is expected, but there is 'exists'"),
        ("a. == 1", "column 4: the name of a field"),
        ('`a"b` == 1', "column 1: a name has"),
        ("`` == 1", "column 1: a name has"),
        ("a == 1e999", "column 6: this number is too large"),
        ("a == 12ab", "column 6"),
        ("a == 1; drop", "column 7: ';' does not belong"),
        ("a == b", "column 6: a value"),
        ("not (" * 15 + "a == 1" + ")" * 15, "more than 20 deep"),
        (" or ".join(["a == 1"] * 201), "more than 200 tests"),
        ("a" * (MAX_LENGTH + 1), f"{MAX_LENGTH} are the most"),
    ],
)
def test_errors_name_the_column(text, message):
    with pytest.raises(InputError, match=message):
        parse_filter(text)


_PIECES = st.sampled_from(
    [
        "a",
        "id",
        "and",
        "or",
        "not",
        "in",
        "contains",
        "exists",
        "(",
        ")",
        "[",
        "]",
        ",",
        "==",
        "<",
        "1",
        "'x'",
        "null",
        ".",
    ]
)


@given(st.text(max_size=30) | st.lists(_PIECES, max_size=12).map(" ".join))
def test_any_text_is_read_or_refused(text):
    try:
        parse_filter(text)
    except InputError as error:
        if "column" not in str(error):
            raise AssertionError from error
