from __future__ import annotations

import inspect
import re

import pytest

from mmseek import errors
from mmseek.errors import EncoderMismatch, ItemError, MissingExtra, MmseekError

CLASSES = {
    name: value
    for name, value in vars(errors).items()
    if inspect.isclass(value) and issubclass(value, Exception) and value.__module__ == errors.__name__
}


def test_all_names_every_error() -> None:
    assert sorted(errors.__all__) == errors.__all__
    assert set(errors.__all__) == set(CLASSES)
    assert all(issubclass(value, MmseekError) for value in CLASSES.values())


def test_codes_are_unique_and_their_own() -> None:
    assert all("code" in vars(value) for value in CLASSES.values())
    codes = [value.code for value in CLASSES.values()]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


def test_the_drawn_tree_is_the_real_one() -> None:
    drawn: dict[str, str | None] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.fullmatch(r"([│ ├└─]*)([A-Z]\w+)( {2,}.*)?", line)
        if match is None:
            continue
        depth = len(match[1]) // 4
        del path[depth:]
        drawn[match[2]] = path[-1] if path else None
        path.append(match[2])
    real = {name: value.__base__.__name__ for name, value in CLASSES.items()}
    assert drawn == real | {"MmseekError": None}


def test_every_error_has_its_line_of_description() -> None:
    assert all(value.__doc__ for value in CLASSES.values())


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({}, "is bad"),
        ({"source": "c.jsonl"}, "c.jsonl: is bad"),
        ({"source": "c.jsonl", "line": 7}, "c.jsonl:7: is bad"),
        ({"source": "c.jsonl", "line": 7, "item_id": "a"}, "c.jsonl:7: is bad"),
        ({"item_id": "a"}, "item 'a': is bad"),
    ],
)
def test_place_of_an_item(place: dict[str, object], message: str) -> None:
    error = ItemError("is bad", **place)  # type: ignore[arg-type]
    assert str(error) == message
    assert error.reason == "is bad"
    assert error.item_id == place.get("item_id")


def test_missing_extra_names_the_command() -> None:
    assert str(MissingExtra("the clip family", "clip")) == (
        "the clip family needs an optional part that is not installed: pip install 'mmseek[clip]'"
    )


def test_encoder_mismatch_names_both() -> None:
    text = str(EncoderMismatch(wanted="st:x", stored="mini", place="/c"))
    assert text.startswith("/c holds vectors of encoder mini, not of st:x: ")
