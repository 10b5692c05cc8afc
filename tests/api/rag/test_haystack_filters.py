"""Haystack's filters, said in mmseek's language, hold for the documents that Haystack's own evaluation picks."""

from __future__ import annotations

import pytest
from haystack import Document
from haystack.errors import FilterError
from haystack.utils.filters import document_matches_filter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmseek.api.rag.haystack import MmseekDocumentStore
from mmseek.api.rag.haystack.filters import BadFilter, to_filter

NUMBERS = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, -1.5, 1e20]))
WORDS = st.sampled_from(["a", "B", 'it\'s "so"', "back\\slash", "", "ü", "a b"])
DATES = st.sampled_from(["2020-01-31T12:00:00", "2020-01-31T12:00:01", "1999-12-31T00:00:00"])
NAMES = {"number": NUMBERS, "word": WORDS, "flag": st.booleans(), "date": DATES, "in and": NUMBERS, "id": WORDS}


def comparisons():
    def of(name):
        values = NAMES[name]
        kinds = [
            st.tuples(st.sampled_from(["==", "!="]), st.one_of(values, st.none())),
            st.tuples(st.sampled_from(["in", "not in"]), st.lists(st.one_of(values, st.none()), max_size=3)),
        ]
        if name in ("number", "date", "in and"):
            kinds.append(st.tuples(st.sampled_from([">", ">=", "<", "<="]), st.one_of(values, st.none())))
        return st.one_of(kinds).map(lambda pair: {"field": f"meta.{name}", "operator": pair[0], "value": pair[1]})

    return st.sampled_from(sorted(NAMES)).flatmap(of)


def filters():
    return st.recursive(
        comparisons(),
        lambda inner: st.builds(
            lambda word, parts: {"operator": word, "conditions": parts},
            st.sampled_from(["AND", "OR", "NOT"]),
            st.lists(inner, min_size=1, max_size=3),
        ),
        max_leaves=5,
    )


METAS = st.fixed_dictionaries({}, optional={name: st.one_of(values, st.none()) for name, values in NAMES.items()})


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(metas=st.lists(METAS, min_size=1, max_size=5), condition=filters())
def test_the_filter_picks_what_haystack_picks(empty, metas, condition):
    store = MmseekDocumentStore(empty)
    store.delete_all_documents()
    documents = [Document(id=str(n), content="a", meta=meta) for n, meta in enumerate(metas)]
    store.write_documents(documents)
    expected = [document.id for document in documents if _matches(condition, document)]
    assert [document.id for document in store.filter_documents(condition)] == expected


def _matches(condition, document):
    """Haystack's evaluation; a negation of several conditions there is one of their conjunction."""
    if "field" in condition:
        return document_matches_filter(condition, document)
    parts = [_matches(part, document) for part in condition["conditions"]]
    return {"AND": all(parts), "OR": any(parts), "NOT": not all(parts)}[condition["operator"]]


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        (None, None),
        ({}, None),
        ("year == 2020", "year == 2020"),
        ({"field": "id", "operator": "==", "value": "a"}, 'id == "a"'),
        ({"field": "meta.a.b", "operator": "!=", "value": True}, "`a`.`b` != true"),
        ({"field": "n", "operator": ">", "value": None}, "not id exists"),
    ],
)
def test_filters_are_said_in_the_language_of_mmseek(condition, said):
    assert to_filter(condition) == said


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        ("year =", "column"),
        (["a"], "is a dictionary"),
        ({"operator": "XOR", "conditions": [{"field": "a", "operator": "==", "value": 1}]}, "AND, OR or NOT"),
        ({"operator": "AND", "conditions": []}, "at least one"),
        ({"field": "content", "operator": "==", "value": "a"}, "by their meta and id"),
        ({"field": 5, "operator": "==", "value": "a"}, "is text"),
        ({"field": "a`", "operator": "==", "value": "a"}, "no name of a field"),
        ({"field": "a", "operator": "~", "value": 1}, "no operator"),
        ({"field": "a", "operator": "==", "value": float("nan")}, "compares with"),
        ({"field": "a", "operator": "==", "value": "x" * 9000}, "make it shorter"),
        ({"field": "a", "operator": ">", "value": True}, "numbers and ISO dates"),
        ({"field": "a", "operator": "<", "value": "20"}, "numbers and ISO dates"),
    ],
)
def test_bad_filters_are_refused_in_a_sentence(condition, words):
    with pytest.raises(BadFilter, match=words) as caught:
        to_filter(condition)
    assert isinstance(caught.value, FilterError)
