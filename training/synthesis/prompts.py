"""What the model is asked. Change a word and raise `PROMPT_VERSION`: rows say by which version they were made."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mmseek.pipeline.chat import Message
from mmseek.training.synthesis.kinds import Job, Kind

__all__ = ["ASPECTS", "PROMPT_VERSION", "SCORES", "again", "request", "review"]

PROMPT_VERSION: Final = 1
ASPECTS: Final = {
    "general": "what the picture shows as a whole",
    "objects": "the things, people and texts in it: number, colour, place",
    "context": "where, when and for what it may have been made",
    "relations": "how the things stand to one another, and what only a careful look finds",
}
SCORES: Final = {
    "alignment": "do all texts fit the pictures, down to the details?",
    "positive": "does the positive answer the query, completely and correctly?",
    "hard_negative": "is the hard negative wrong for the query, though near enough to be mistaken?",
}
_SYSTEM: Final = (
    "You write training data for a search engine that reads texts and pictures. "
    "Answer with one JSON object and nothing else."
)
_TASKS: Final = {
    "classification": "Think of a way to sort such pictures into classes. The instruction asks for the class, the "
    "positive names the right one, and the hard negative names a class that is wrong but near.",
    "vqa": "Think of a question about the picture that cannot be answered without it. The instruction asks for an "
    "answer, the query is the question, the positive answers it, and the hard negative is a wrong answer of the same "
    "kind.",
    "retrieval": "Think of a search for which somebody would want exactly the positive. The instruction says what kind "
    "of thing is to be found; the hard negative is what a careless search would return in its place.",
}
_SIDES: Final = {"text": "a text", "image": "a picture", "image,text": "a picture with a text"}
_FIELDS: Final = {
    "instruction": "what is to be done, in English, without anything that only this row has",
    "query": "the text that is searched with",
    "positive": "the text of what should be found",
    "hard_negative": "the text of what should not be found",
}


def request(job: Job, pictures: Sequence[dict[str, Any]]) -> list[Message]:
    """The messages that ask for a row.

    Args:
        job: which.
        pictures: as parts of a message, one for each of the kind's roles.
    """
    kind = job.kind
    wanted = {
        "descriptions": [dict(ASPECTS) for _ in kind.roles],
        "draft": {field: _FIELDS[field] for field in kind.fields},
        "evaluation": {
            **{name: f"{question} 1 (no) to 5 (yes)" for name, question in SCORES.items()},
            "problem": "...",
        },
        "final": "the draft, mended where the evaluation found fault: the same keys",
        "keep": "true, or false if the row cannot be mended",
    }
    lines = [
        (
            f"Write one row for {kind.task}: the query is {_SIDES[kind.query]}, what is searched is "
            f"{_SIDES[kind.document]}."
        ),
        _TASKS[kind.task],
        *_about(kind),
        (
            f"Language of the query and of what is searched: {job.language}. Length of the query: {job.length}. "
            f"Difficulty: {job.level}."
        ),
    ]
    if job.again:
        lines.append(f"{job.again} such rows were made around the first picture before: find something else in it.")
    lines += [
        (
            "First describe each picture from all sides, then draft the row from picture and description, then "
            "judge the draft, then write it again. The answer is a JSON object of exactly this form, its scores whole "
            "numbers:"
        ),
        json.dumps(wanted, indent=1),
    ]
    return _messages(kind, pictures, "\n".join(lines))


def review(job: Job, pictures: Sequence[dict[str, Any]], final: Mapping[str, str]) -> list[Message]:
    """The messages that ask for a second judgement of a row, by one who does not know how it was made."""
    kind = job.kind
    wanted = {
        "evaluation": {
            **{name: f"{question} 1 (no) to 5 (yes)" for name, question in SCORES.items()},
            "problem": "...",
        },
        "final": "the row, mended where you found fault: the same keys",
        "keep": "true, or false if the row cannot be mended",
    }
    lines = [
        f"Judge one row for {kind.task}: {_sides(kind)}",
        *_about(kind),
        f"Language of the query and of what is searched: {job.language}. The row:",
        json.dumps(dict(final), indent=1, ensure_ascii=False),
        (
            "Look for what is wrong rather than for what is right. The answer is a JSON object of exactly this form, "
            "its scores whole numbers:"
        ),
        json.dumps(wanted, indent=1),
    ]
    return _messages(kind, pictures, "\n".join(lines))


def again(messages: Sequence[Message], reason: str) -> list[Message]:
    """The same, told why the answer before could not be used."""
    told = f"An answer before this one could not be used: {reason}. Answer with one JSON object of that form only."
    *rest, last = messages
    return [*rest, {**last, "content": [*last["content"], {"type": "text", "text": told}]}]


def _sides(kind: Kind) -> str:
    return f"the query is {_SIDES[kind.query]}, what is searched is {_SIDES[kind.document]}."


def _about(kind: Kind) -> list[str]:
    places = [f"picture {number} is the {role.replace('_', ' ')}'s" for number, role in enumerate(kind.roles, 1)]
    lines = [f"Of the pictures above, {', '.join(places)}."]
    if "image" in kind.document:
        lines.append(
            "They were chosen because they are alike. If no honest row makes the positive right and the hard negative "
            "wrong, say keep: false."
        )
    if "text" not in kind.query:
        lines.append("The query has no text: what is asked for stands in the instruction alone.")
    return lines


def _messages(kind: Kind, pictures: Sequence[dict[str, Any]], text: str) -> list[Message]:
    parts: list[dict[str, Any]] = []
    for number, (role, picture) in enumerate(zip(kind.roles, pictures, strict=True), 1):
        parts += [{"type": "text", "text": f"Picture {number} ({role.replace('_', ' ')}):"}, picture]
    return [
        {"role": "system", "content": _SYSTEM},
        {"role": "user", "content": [*parts, {"type": "text", "text": text}]},
    ]
