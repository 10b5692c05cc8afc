from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmseek import Content, Image, Text
from mmseek.digest import content_key, digest
from mmseek.errors import ItemError, MediaNotFound, MediaTooLarge
from mmseek.media import MediaLimits


def texts(*some: str) -> Content:
    return Content(tuple(Text(one) for one in some))


def test_known_values_never_change() -> None:
    """These stand in collections on disk: another value would encode every corpus anew."""
    content = Content((Image(data=b"abc"), Text("é")))
    assert (
        digest(content, {"b": 1, "a": [None]}, "p")
        == "485b8a0dd2f3f31b856523ea18b5f3dd1714c2672a89b33e6db808f1dff0f4ac"
    )
    assert content_key(content) == "ae71c9322dee8971516738fa07ed7c55a9207b2612ff35d07f112f5847fe160b"


def test_form() -> None:
    assert len(digest(texts("x"))) == 64
    assert set(digest(texts("x"))) <= set("0123456789abcdef")
    assert digest(texts("x")) != content_key(texts("x"))


DIFFERENT = [
    (texts(), {}, None),
    (texts(""), {}, None),
    (texts("", ""), {}, None),
    (texts("abc"), {}, None),
    (texts("ab", "c"), {}, None),
    (texts("a", "bc"), {}, None),
    (texts("c", "ab"), {}, None),
    (Content((Image(data=b"abc"),)), {}, None),
    (Content((Image(url="abc"),)), {}, None),
    (Content((Image(data=b"ab"), Text("c"))), {}, None),
    (Content((Text("c"), Image(data=b"ab"))), {}, None),
    (texts("abc"), {"a": 1}, None),
    (texts("abc"), {"a": 1.0}, None),
    (texts("abc"), {"a": True}, None),
    (texts("abc"), {"a": "1"}, None),
    (texts("abc"), {"a": None}, None),
    (texts("abc"), {"a": [1]}, None),
    (texts("abc"), {}, ""),
    (texts("abc"), {}, "p"),
    (texts("abc", "p"), {}, None),
    (texts("abc", "{}"), {}, None),
    (texts("e\u0301"), {}, None),
    (texts("\u00e9"), {}, None),
]


def test_what_differs_has_another_digest() -> None:
    assert len({digest(*one) for one in DIFFERENT}) == len(DIFFERENT)


def test_key_is_of_the_content_alone() -> None:
    contents = {one[0] for one in DIFFERENT}
    assert len({content_key(content) for content in contents}) == len(contents)


def test_where_a_picture_lies_does_not_matter(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"same")
    pictures = [Image(data=b"same"), Image(path=tmp_path / "a"), Image(path=tmp_path / "b")]
    for function in (digest, content_key):
        assert len({function(Content((picture,))) for picture in pictures}) == 1
    before = digest(Content((pictures[1],)))
    (tmp_path / "a").write_bytes(b"other")
    assert digest(Content((pictures[1],))) != before


def test_order_of_metadata_does_not_matter() -> None:
    one, other = {"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}
    assert digest(texts("x"), one) == digest(texts("x"), other) == digest(texts("x"), MappingProxyType(one))


def test_picture_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(MediaNotFound):
        digest(Content((Image(path=tmp_path / "none"),)))
    with pytest.raises(MediaTooLarge):
        content_key(Content((Image(data=b"1234"),)), limits=MediaLimits(max_bytes=3))


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, b"x", object()])
def test_metadata_that_is_no_json(value: object) -> None:
    with pytest.raises(ItemError, match="metadata cannot be written as JSON"):
        digest(texts("x"), {"a": value})


parts = st.lists(
    st.text(max_size=4).map(Text) | st.binary(min_size=1, max_size=4).map(lambda data: Image(data=data)), max_size=4
)
metadata = st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=3)


@given(parts, metadata, st.none() | st.text(max_size=3), parts, metadata, st.none() | st.text(max_size=3))
def test_equal_exactly_if_equal(
    a: list[Any], m: dict[str, Any], p: str | None, b: list[Any], n: dict[str, Any], q: str | None
) -> None:
    one, other = (Content(tuple(a)), m, p), (Content(tuple(b)), n, q)
    assert (digest(*one) == digest(*other)) == (one == other)
    assert digest(*one) == digest(Content(tuple(a)), dict(reversed(m.items())), p)
