from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import get_args

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmseek import Content, Document, Encoded, EncodeRequest, EncoderIdentity, Hit, Image, Query, Text, _types
from mmseek._types import Pair, RerankerIdentity, Scored, Sent, Weighted
from mmseek.errors import InputError
from mmseek.media import open_image

PICTURE = Image(data=b"x")
CLASSES = [value for value in vars(_types).values() if inspect.isclass(value) and dataclasses.is_dataclass(value)]
EXAMPLES = [
    Text("a"),
    PICTURE,
    Content((Text("a"),)),
    Document("a", Content(())),
    Query(Content((Text("a"),))),
    Hit(1, "a", 0.5, {"dense": 0.5}, Document("a", Content(()))),
    EncodeRequest(Content(())),
    Encoded(),
    EncoderIdentity("mini", "abc", 384),
    Pair(Content(()), Content((Text("a"),))),
    Scored(0.5),
    RerankerIdentity("cross-encoder:x", "abc"),
    Weighted(Content((Text("a"),)), -0.5),
    Sent("a"),
]


def test_every_class_has_an_example() -> None:
    assert {type(example) for example in EXAMPLES} == set(CLASSES)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_immutable_equal_by_value_and_slim(example: object) -> None:
    for field in dataclasses.fields(example):  # type: ignore[arg-type]
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(example, field.name, None)
    assert not hasattr(example, "__dict__")
    assert dataclasses.replace(example) == example  # type: ignore[type-var]


@pytest.mark.parametrize("example", [Text("a"), PICTURE, Content((Text("a"), PICTURE)), Query(Content((PICTURE,)))])
def test_usable_as_a_key(example: object) -> None:
    assert {example: 1}[dataclasses.replace(example)] == 1  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("parts", "modality", "empty"),
    [
        ((), "text", True),
        ((Text(""),), "text", True),
        ((Text(" \n\t"),), "text", True),
        ((Text("a"),), "text", False),
        ((Text("a"), Text("")), "text", False),
        ((PICTURE,), "image", False),
        ((PICTURE, PICTURE), "image", False),
        ((PICTURE, Text(" ")), "image", False),
        ((Text("a"), PICTURE), "image,text", False),
        ((PICTURE, Text("a")), "image,text", False),
    ],
)
def test_modality(parts: tuple[Text | Image, ...], modality: str, empty: bool) -> None:
    content = Content(parts)
    assert content.modality == modality
    assert content.is_empty is empty


@given(st.lists(st.text(max_size=3).map(Text) | st.just(PICTURE), max_size=5))
def test_parts_are_told_apart(parts: list[Text | Image]) -> None:
    content = Content(tuple(parts))
    assert len(content.texts) + len(content.images) == len(parts)
    assert content.text == "\n".join(part.text for part in parts if isinstance(part, Text))
    assert content.modality in get_args(_types.Modality)
    assert not (content.is_empty and content.images)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"path": Path("a"), "data": b"x"},
        {"path": Path("a"), "url": "u"},
        {"data": b"x", "url": "u"},
        {"path": Path("a"), "data": b"x", "url": "u"},
    ],
)
def test_picture_has_exactly_one_source(given: dict[str, object]) -> None:
    with pytest.raises(InputError, match="exactly one of path, data and url"):
        Image(**given)  # type: ignore[arg-type]


def test_picture_never_shows_its_bytes() -> None:
    assert str(Image(data=b"secret")) == "picture of 6 bytes"
    assert str(Image(path=Path("a/b.png"))) == "a/b.png"
    assert str(Image(url="https://x/y")) == "https://x/y"
    assert "secret" not in repr(Image(data=b"secret"))


def test_content_of_loose_parts() -> None:
    content = Content.of("words", Path("a.png"), Text("more"), PICTURE)
    assert content.parts == (Text("words"), Image(path=Path("a.png")), Text("more"), PICTURE)
    assert Content.of() == Content(())


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "I;16"])
def test_content_of_a_decoded_picture_keeps_it(mode: str) -> None:
    grid = np.arange(60, dtype=np.uint8).reshape(4, 5, 3) * 4
    picture = PIL.Image.fromarray(grid).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        picture = PIL.Image.fromarray(np.asarray(picture).astype(np.uint16) * 257)
    (kept,) = Content.of(picture).images
    white = PIL.Image.new("RGBA", picture.size, "white")
    plain = grid if mode == "RGB" else None
    decoded = np.asarray(open_image(kept))
    if mode == "I;16":
        np.testing.assert_array_equal(decoded[..., 0], np.asarray(picture) // 257)
    else:
        expected = PIL.Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
        np.testing.assert_array_equal(decoded, plain if plain is not None else np.asarray(expected))
    assert Content.of(picture) == Content.of(picture.copy())


@pytest.mark.parametrize("part", [5, None, b"bytes", ["a"], {"text": "a"}])
def test_other_parts_are_refused(part: object) -> None:
    with pytest.raises(InputError, match=f"not {type(part).__name__}$"):
        Content.of(part)  # type: ignore[arg-type]


def test_query_defaults() -> None:
    query = Query(Content.of("a"))
    assert (query.instruction, query.k, query.exclude, query.candidates) == (None, 10, frozenset(), None)


@pytest.mark.parametrize("k", [0, -1])
def test_query_needs_a_positive_k(k: int) -> None:
    with pytest.raises(InputError, match=f"must be at least 1, not {k}"):
        Query(Content.of("a"), k=k)


@pytest.mark.parametrize("content", [Content(()), Content.of(""), Content.of(" \n")])
def test_query_needs_content(content: Content) -> None:
    with pytest.raises(InputError, match="neither text nor image"):
        Query(content)


def test_identity_names_itself_briefly() -> None:
    assert str(EncoderIdentity("mini", "0123456789abcdef", 384)) == "mini (0123456789ab, 384-d)"
