"""The evidence of WebQA and MMQA: pictures with captions, and texts, each under the id that the data gives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from mmseek._types import Content
from mmseek.errors import InputError, ItemError
from mmseek.evaluation.formats.contents import content_of, picture_of, pictures_in
from mmseek.evaluation.tables import read_table

__all__ = ["list_of", "mmqa_evidence", "mmqa_wanted", "one_file", "webqa_facts"]

_SUFFIXES: Final = (".jpg", ".png", ".jpeg", ".webp")


def one_file(folder: Path, pattern: str) -> Path:
    """The first file of a folder with such a name.

    Raises:
        InputError: there is none.
    """
    found = sorted(folder.glob(pattern))
    if not found:
        raise InputError(f"{folder} holds no {pattern}: give the file, or its folder")
    return found[0]


def list_of(value: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """The objects under a key; none if it is not there.

    Raises:
        ItemError: there is something else.
    """
    found = value.get(key) or []
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ItemError(f"{key} must be a list of objects")
    return found


def webqa_facts(value: Mapping[str, Any], kind: str, find: Callable[[str], Path]) -> list[tuple[str, Content]]:
    """The facts of one entry: pictures by `image_id`, texts by `snippet_id`, or by their place where they have none.

    Args:
        value: the entry.
        kind: `posFacts` or `negFacts`.
        find: see `pictures_in`.

    Raises:
        ItemError: a fact is none.
    """
    found = []
    for fact in list_of(value, f"img_{kind}"):
        name = str(fact.get("image_id") or "")
        picture = picture_of(_named(name, find), find)
        if picture is None:
            raise ItemError(f"img_{kind} holds a fact without image_id")
        found.append((name, content_of(fact.get("caption") or fact.get("title"), picture)))
    for place, fact in enumerate(list_of(value, f"txt_{kind}")):
        words = "\n".join(each for each in (fact.get("title"), fact.get("fact")) if isinstance(each, str) and each)
        name = str(fact.get("snippet_id") or f"{value.get('guid')}_{kind}_{place}")
        found.append((name, content_of(words, None)))
    return found


def _named(image_id: str, find: Callable[[str], Path]) -> str:
    """The file of a picture that is known by its number."""
    if not image_id or Path(image_id).suffix in _SUFFIXES:
        return image_id
    return next((name for suffix in _SUFFIXES if find(name := image_id + suffix).is_file()), image_id + _SUFFIXES[0])


def mmqa_evidence(folder: Path) -> dict[str, Content]:
    """Pictures and texts of MMQA by their ids. What cannot be used is left out: a question that needs it says so.

    Raises:
        InputError: neither file is there.
    """
    find = pictures_in(folder, folder / "final_dataset_images")
    found: dict[str, Content] = {}
    files = [path for path in (folder / "MMQA_images.jsonl", folder / "MMQA_texts.jsonl") if path.is_file()]
    if not files:
        raise InputError(f"{folder} holds neither MMQA_images.jsonl nor MMQA_texts.jsonl: they have the evidence")
    for row in (row for path in files for row in read_table(path)):
        if isinstance(row, ItemError) or not isinstance(row.value.get("id"), str):
            continue
        value = row.value
        words = "\n".join(each for each in (value.get("title"), value.get("text")) if isinstance(each, str) and each)
        try:
            found[value["id"]] = content_of(words, picture_of(value.get("path"), find))
        except ItemError:
            continue
    return found


def mmqa_wanted(value: Mapping[str, Any], known: Mapping[str, Content]) -> list[str]:
    """The ids of the evidence of one question; tables are none here.

    Raises:
        ItemError: it has none, or it is not known.
    """
    wanted = [
        str(each.get("doc_id")) for each in list_of(value, "supporting_context") if each.get("doc_part") != "table"
    ]
    if not wanted:
        raise ItemError("has no picture and no text in supporting_context")
    missing = [each for each in wanted if each not in known]
    if missing:
        raise ItemError(f"the evidence {missing[0]!r} is neither in MMQA_images.jsonl nor in MMQA_texts.jsonl")
    return list(dict.fromkeys(wanted))
