"""Filters on every kind of collection, against a plain evaluation in Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmseek import Content, Document
from mmseek.errors import InputError
from mmseek.filters import MAX_DEPTH, And, Compare, Contains, Exists, Field, Not, OneOf, Or, parse_filter

MISSING = object()


def value_of(field: Field, document: Document):
    if field.reserved:
        own = {"id": document.id, "modality": document.content.modality, "parent_id": document.parent_id}
        return MISSING if own[field.path[0]] is None else own[field.path[0]]
    value = document.metadata
    for name in field.path:
        value = value.get(name, MISSING) if isinstance(value, dict) else MISSING
    return MISSING if value is None else value


def kind(value):
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, int | float) else type(value).__name__


def equal(left, right):
    return kind(left) == kind(right) and left == right


def holds(expression, document) -> bool:
    if isinstance(expression, And):
        return all(holds(part, document) for part in expression.parts)
    if isinstance(expression, Or):
        return any(holds(part, document) for part in expression.parts)
    if isinstance(expression, Not):
        return not holds(expression.part, document)
    value = value_of(expression.field, document)
    if isinstance(expression, Exists):
        return value is not MISSING
    if isinstance(expression, OneOf):
        return any(equal(value, one) for one in expression.values)
    if isinstance(expression, Contains):
        if isinstance(value, str):
            return isinstance(expression.value, str) and expression.value in value
        return isinstance(value, list) and any(equal(one, expression.value) for one in value)
    assert isinstance(expression, Compare)
    if kind(value) != kind(expression.value):
        return False
    order = {"==": value == expression.value}
    if kind(value) != "bool":
        order |= {"<": value < expression.value, "<=": value <= expression.value}
        order |= {">": value > expression.value, ">=": value >= expression.value}
    return order[expression.operator]


SCALARS = st.sampled_from(
    [
        True,
        False,
        0,
        1,
        -1,
        2,
        1.0,
        1.5,
        2**53,
        2**53 + 1,
        2**63 - 1,
        "",
        "a",
        "ab",
        "B",
        "é",
        "𝄞",
        "\uffff",
        "1",
        "'",
        '"',
        "%",
    ]
)
NAMES = st.sampled_from(["a", "b", "x y", "é", "a.b", "[0]", "$", "#"])
JSON = st.recursive(
    SCALARS | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=4,
)
METADATA = st.dictionaries(NAMES, JSON, max_size=4)


def written(value) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return repr(value)


FIELDS = st.one_of(
    st.lists(NAMES, min_size=1, max_size=2).map(lambda names: ".".join(f"`{name}`" for name in names)),
    st.sampled_from(["id", "parent_id", "modality"]),
)
ORDERED = SCALARS.filter(lambda value: not isinstance(value, bool))
TESTS = st.one_of(
    st.tuples(FIELDS, st.sampled_from(["==", "!="]), (SCALARS | st.none()).map(written)).map(" ".join),
    st.tuples(FIELDS, st.sampled_from(["<", "<=", ">", ">="]), ORDERED.map(written)).map(" ".join),
    st.tuples(FIELDS, st.sampled_from(["contains", "not contains"]), SCALARS.map(written)).map(" ".join),
    st.tuples(
        FIELDS,
        st.sampled_from(["in", "not in"]),
        st.lists(SCALARS.map(written), min_size=1, max_size=4).map(lambda values: f"[{', '.join(values)}]"),
    ).map(" ".join),
    FIELDS.map(lambda field: f"{field} exists"),
)
CONDITIONS = st.recursive(
    TESTS,
    lambda inner: st.one_of(
        inner.map(lambda one: f"not ({one})"),
        st.lists(inner, min_size=2, max_size=3).map(" and ".join).map(lambda text: f"({text})"),
        st.lists(inner, min_size=2, max_size=3).map(" or ".join).map(lambda text: f"({text})"),
    ),
    max_leaves=5,
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    metadata=st.lists(METADATA, min_size=1, max_size=6),
    conditions=st.lists(CONDITIONS, min_size=1, max_size=8),
)
def test_filters_mean_what_python_says(collection, metadata, conditions):
    collection.delete([document.id for document in collection.documents()])
    parents = (None, "a", "B")
    documents = [Document(f"a{n}", Content.of("word"), data, parents[n % 3]) for n, data in enumerate(metadata)]
    collection.upsert(documents, np.ones((len(documents), 8), dtype=np.float32))
    for condition in conditions:
        expected = [document.id for document in documents if holds(parse_filter(condition), document)]
        found = collection.search(np.ones(8, dtype=np.float32), 10, filter=condition)
        assert [hit.id for hit in found] == expected, condition
        assert {hit.id for hit in collection.search_text("word", 10, filter=condition)} == set(expected)


@pytest.mark.parametrize("location", ["folder", "qdrant-edge"], indirect=True)
def test_one_in_ten_thousand_is_found(collection, vectors):
    values = vectors(10_000)
    documents = [Document(f"d{n}", Content.of("some words"), {"n": n, "rare": n % 1000 == 7}) for n in range(10_000)]
    collection.upsert(documents, values)
    order = np.argsort(-(values @ values[0]))
    for condition, chosen in (("n == 1234", {1234}), ("rare == true", set(range(7, 10_000, 1000)))):
        expected = [f"d{n}" for n in order if n in chosen]
        assert [hit.id for hit in collection.search(values[0], 10, filter=condition)] == expected
        assert {hit.id for hit in collection.search_text("words", 10, filter=condition)} == set(expected)


def test_a_filter_joins_candidates_and_exclude(collection, documents, vectors):
    collection.upsert(documents(range(20)), vectors(20))
    kept = {"candidates": ["d1", "d12", "d13"], "exclude": ["d13"], "filter": "n >= 10"}
    assert [hit.id for hit in collection.search(vectors(1)[0], 10, **kept)] == ["d12"]
    assert [hit.id for hit in collection.search_text("text", 10, **kept)] == ["d12"]
    assert collection.search(vectors(1)[0], 10, candidates=[], filter="n >= 10") == []


def test_the_deepest_and_the_longest_filters_work(collection, documents, vectors):
    collection.upsert(documents(range(3)), vectors(3))
    deep = "n == 1"
    for level in range(MAX_DEPTH):
        deep = (
            f"(x contains 'y' {'and' if level % 2 else 'or'} {deep})" if level % 4 else f"(not_there exists or {deep})"
        )
    wide = " or ".join(["n contains 'x'"] * 199 + ["n == 1"])
    among = f"n in [{', '.join(str(n) for n in range(1, 1400))}]"
    expected = {document.id for document in documents(range(3)) if holds(parse_filter(deep), document)}
    assert {hit.id for hit in collection.search(vectors(1)[0], 3, filter=deep)} == expected
    assert [hit.id for hit in collection.search(vectors(1)[0], 3, filter=wide)] == ["d1"]
    assert len(collection.search(vectors(1)[0], 3, filter=among)) == 2


def test_a_bad_filter_is_refused(collection, vectors):
    for search in (
        lambda text: collection.search(vectors(1)[0], 3, filter=text),
        lambda t: collection.search_text("x", 3, filter=t),
    ):
        with pytest.raises(InputError, match="column 3"):
            search("n = 1")


def test_metadata_with_half_a_character(collection, vectors):
    collection.upsert([Document("d", Content.of("\ud800 word"), {"é": "\udfff", "n": "ü"})], vectors(1))
    for condition in ("é exists", "n == 'ü'"):
        assert len(collection.search(vectors(1)[0], 3, filter=condition)) == 1
        assert len(collection.search_text("word", 3, filter=condition)) == 1


EDGES = [
    (1, "x == 1.0", True),
    (1.0, "x == 1", True),
    (1.0, "x in [2, 1]", True),
    ([1.0], "x contains 1", True),
    (True, "x == 1", False),
    (1, "x == true", False),
    ("1", "x == 1", False),
    (2**53 + 1, "x == 9007199254740992", False),
    (2**53 + 1, "x > 9007199254740992", True),
    (2**53 + 1, "x <= 9007199254740992", False),
    (2**63 - 1, "x < 9223372036854775807", False),
    (-(2**53) - 1, "x < -9007199254740992", True),
    (2**53 + 1, "x > 9007199254740991", True),
    ([5], "x == 5", False),
    ([5], "x > 4", False),
    ([[5]], "x contains 5", False),
    ({"y": 5}, "x.y > 4", True),
    ([{"y": 5}], "x.y > 4", False),
    ({"y": {"z": "word"}}, "x.y.z contains 'or'", True),
    ({"y": 5}, "x exists", True),
    (None, "x exists", False),
    (0.1, "x <= 0.1", True),
    ("é", "x > 'z'", True),
    ("\U0001d11e", "x > '\uffff'", True),
    ("a.b", "x == 'a.b'", True),
]


def test_values_at_the_edge(collection):
    one = np.ones(8, dtype=np.float32)
    documents = [Document(f"d{n}", Content.of("word"), {"x": case[0], "y": {"x": 7}}) for n, case in enumerate(EDGES)]
    collection.upsert(documents, np.ones((len(EDGES), 8), dtype=np.float32))
    cases = list(zip(documents, EDGES, strict=True))
    for number, (document, (_, condition, wanted)) in enumerate(cases * 2):
        if number == len(cases):
            collection.compact()  # from here on, numbers have an index where the store knows such a thing
        assert holds(parse_filter(condition), document) is wanted
        only = {"candidates": [document.id]}
        assert len(collection.search(one, 3, filter=condition, **only)) == wanted, (document, condition)
        assert len(collection.search_text("word", 3, filter=f"not ({condition})", **only)) != wanted, condition
