"""The model's answers, read strictly: what is not exactly as asked for is told by its name and not guessed at."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mmseek.errors import ItemError
from mmseek.jsonl import check_json
from mmseek.pipeline.chat import Reply
from mmseek.training.synthesis.kinds import Kind
from mmseek.training.synthesis.prompts import ASPECTS, SCORES

__all__ = ["BadAnswer", "Judged", "read"]

_LONGEST: Final = 4000
_FENCE: Final = re.compile(r"\A```(?:json)?[ \t]*\n(.*)\n```\Z", re.DOTALL)
# Before the answer, from models that think aloud.
_THOUGHTS: Final = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)


class BadAnswer(Exception):
    """An answer that makes no row.

    Args:
        kind: for counting: `refusal`, `cut off`, `empty`, `not JSON`, `other form` or `no row`.
        reason: a clause, for people and for the model.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Judged:
    """A row as the model left it.

    Args:
        final: the texts of the row, by field.
        descriptions: of each picture, by aspect; empty from a review.
        scores: 1 to 5, by question.
        keep: whether the model stands by it.
        revised: whether `final` differs from what was judged.
    """

    final: Mapping[str, str]
    descriptions: tuple[Mapping[str, str], ...]
    scores: Mapping[str, int]
    keep: bool
    revised: bool


def read(reply: Reply, kind: Kind, *, judged: Mapping[str, str] | None = None) -> Judged:
    """The row in an answer.

    Args:
        reply: the answer.
        kind: what was asked for.
        judged: what was reviewed; None where the answer also holds descriptions and a draft.

    Raises:
        BadAnswer: it holds none.
    """
    found = _object(reply)
    keys = ("evaluation", "final", "keep") if judged is not None else _ALL
    _exactly(found, keys, "the answer")
    descriptions: tuple[Mapping[str, str], ...] = ()
    if judged is None:
        descriptions = _descriptions(found["descriptions"], len(kind.roles))
        judged = _texts(found["draft"], kind.fields, "draft")
    scores = _scores(found["evaluation"])
    if not isinstance(found["keep"], bool):
        raise BadAnswer("other form", "keep is neither true nor false")
    # A row that is given up needs no second writing.
    final = _texts(found["final"], kind.fields, "final") if found["keep"] else judged
    if found["keep"]:
        _check(final)
    return Judged(final, descriptions, scores, found["keep"], dict(final) != dict(judged))


_ALL: Final = ("descriptions", "draft", "evaluation", "final", "keep")


def _object(reply: Reply) -> dict[str, Any]:
    if reply.refusal or reply.finish == "content_filter":
        raise BadAnswer("refusal", f"the model refuses ({_short(reply.refusal) or 'content filter'})")
    if reply.finish == "length":
        raise BadAnswer("cut off", "the answer was cut off before its end: it needs more tokens")
    text = _THOUGHTS.sub("", reply.text).strip()
    if not text:
        raise BadAnswer("empty", "the answer is empty")
    fenced = _FENCE.match(text)
    try:
        found = json.loads(fenced[1] if fenced else text, object_pairs_hook=_once, parse_constant=_no_constant)
        check_json(found)
    except ItemError as error:
        raise BadAnswer("not JSON", f"the answer {error.reason}") from error
    except (ValueError, RecursionError) as error:
        raise BadAnswer("not JSON", f"the answer is not one JSON object: {_short(text)!r}") from error
    if not isinstance(found, dict):
        raise BadAnswer("not JSON", "the answer is not one JSON object")
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ItemError("holds a key twice")
    return found


def _no_constant(name: str) -> Any:
    raise ItemError(f"holds {name}, which JSON has not")


def _exactly(value: Any, keys: Sequence[str], what: str) -> None:
    if not isinstance(value, dict):
        raise BadAnswer("other form", f"{what} is no object")
    for key in keys:
        if key not in value:
            raise BadAnswer("other form", f"{what} has no {key!r}")
    for key in value:
        if key not in keys:
            raise BadAnswer("other form", f"{what} has the unknown key {_short(key)!r}")


def _texts(value: Any, keys: Sequence[str], what: str) -> dict[str, str]:
    _exactly(value, keys, what)
    for key in keys:
        text = value[key]
        if not isinstance(text, str) or not text.strip() or len(text) > _LONGEST:
            raise BadAnswer("other form", f"{key!r} of {what} is no text of 1 to {_LONGEST} letters")
    return {key: value[key].strip() for key in keys}


def _descriptions(value: Any, count: int) -> tuple[dict[str, str], ...]:
    if not isinstance(value, list) or len(value) != count:
        raise BadAnswer("other form", f"descriptions is no list of {count}")
    return tuple(_texts(each, tuple(ASPECTS), f"description {place}") for place, each in enumerate(value, 1))


def _scores(value: Any) -> dict[str, int]:
    _exactly(value, (*SCORES, "problem"), "evaluation")
    for name in SCORES:
        if type(value[name]) is not int or not 1 <= value[name] <= 5:
            raise BadAnswer("other form", f"{name!r} of the evaluation is no whole number from 1 to 5")
    return {name: value[name] for name in SCORES}


def _check(final: Mapping[str, str]) -> None:
    """Rows from which nothing can be learned."""
    said = {key: unicodedata.normalize("NFKC", final[key]).casefold() for key in final if key != "instruction"}
    if "positive" in said and said["positive"] == said["hard_negative"]:
        raise BadAnswer("no row", "the hard negative is the positive")
    if said.get("query") is not None and said["query"] in (said.get("positive"), said.get("hard_negative")):
        raise BadAnswer("no row", "the query is the text of a document")


def _short(text: str) -> str:
    return " ".join(text.split())[:80]
