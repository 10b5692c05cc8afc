"""Lists a page at a time, and counting and deleting by filter, on every kind of collection."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmseek import Content, Document
from mmseek.errors import CollectionError, InputError
from mmseek.index import open_collection
from mmseek.protocols import Listing


def store(collection, vectors, numbers, word="x"):
    numbers = list(numbers)
    documents = [Document(f"d{n}", Content.of(f"{word} {n}"), {"n": n, "odd": n % 2 == 1}) for n in numbers]
    if documents:
        collection.upsert(documents, vectors(len(documents)))


def walk(collection, limit, filter=None, between=lambda: None):  # noqa: A002
    found, after = [], 0
    while after is not None:
        page = collection.page(limit, after, filter)
        assert len(page.documents) <= limit
        found += [document.id for document in page.documents]
        after = page.next
        between()
    return found


def test_pages_make_the_whole_list_in_order(collection, vectors):
    assert isinstance(collection, Listing)
    assert collection.page(3).documents == ()
    assert collection.page(3).next is None
    for n in range(7):
        store(collection, vectors, [n])
    every = [f"d{n}" for n in range(7)]
    assert every == [document.id for document in collection.documents()]
    for limit in (1, 2, 3, 7, 8):
        assert walk(collection, limit) == every
        assert walk(collection, limit, "odd == true") == ["d1", "d3", "d5"]
    assert collection.page(7).next is None
    assert collection.page(2).documents == tuple(collection.get(["d0", "d1"]).values())


def test_writes_meanwhile_neither_hide_nor_repeat_what_stays(collection, vectors):
    store(collection, vectors, range(10))
    steps = iter(
        [
            lambda: collection.delete(["d0", "d1", "d5"]),  # before and after the place that the list has reached
            lambda: store(collection, vectors, [2, 8], "new"),  # what is replaced goes to the end
            lambda: collection.compact(),
            lambda: store(collection, vectors, [20, 21]),
        ]
    )
    found = walk(collection, 2, between=lambda: next(steps, lambda: None)())
    for name in ("d3", "d4", "d6", "d7", "d9", "d20", "d21"):
        assert found.count(name) == 1
    assert "d5" not in found
    assert "d8" in found


def test_filters_count_and_delete(collection, vectors):
    store(collection, vectors, range(9))
    assert collection.count_where("odd == true") == 4
    assert collection.count_where("n < 0") == 0
    assert collection.delete_where("odd == true and n > 2") == 3
    assert walk(collection, 100) == ["d0", "d1", "d2", "d4", "d6", "d8"]
    assert collection.delete_where("odd == true and n > 2") == 0
    assert collection.delete_where("id exists") == 6
    assert collection.info().documents == 0
    assert collection.verify().ok


def test_what_is_no_filter_or_page_changes_nothing(collection, vectors):
    store(collection, vectors, range(3))
    for wrong in ("", "n >", "drop table"):
        for call in (collection.count_where, collection.delete_where, lambda text: collection.page(1, 0, text)):
            with pytest.raises(InputError):
                call(wrong)
    for limit, after in ((0, 0), (10_001, 0), (1, -1), (1, 2**63)):
        with pytest.raises(InputError):
            collection.page(limit, after)
    assert collection.info().documents == 3


def test_a_reader_lists_and_cannot_delete(collection, location, vectors):
    store(collection, vectors, range(3))
    collection.close()
    reader = open_collection(location)
    try:
        assert len(reader.page(10).documents) == 3
        with pytest.raises(CollectionError):
            reader.delete_where("n >= 0")
        assert reader.count_where("n >= 0") == 3
    finally:
        reader.close()


@given(
    st.lists(st.sets(st.integers(0, 12), max_size=5), max_size=6),
    st.integers(1, 6),
    st.sampled_from([None, "odd == true", "n < 5"]),
)
@settings(max_examples=15, suppress_health_check=list(HealthCheck))
def test_any_history_lists_as_it_iterates(collection, vectors, history, limit, text):
    collection.delete([document.id for document in collection.documents()])
    for numbers in history:
        store(collection, vectors, sorted(numbers))
    kept = {None: lambda _: True, "odd == true": lambda n: n % 2 == 1, "n < 5": lambda n: n < 5}[text]
    wanted = [document.id for document in collection.documents() if kept(document.metadata["n"])]
    assert walk(collection, limit, text) == wanted
    if text is not None:
        assert collection.count_where(text) == len(wanted)
