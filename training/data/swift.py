"""ms-swift's JSONL for embedding models: conversations with `<image>` where pictures go.

    {"messages": [...], "images": [...], "positive_messages": [[...], ...], "positive_images": [[...], ...],
     "negative_messages": [[...], ...], "negative_images": [[...], ...]}

The user's turns are the content; a system turn is the query's instruction. The older `query, response,
rejected_response, images` is read as well. See ms-swift's documentation, "Embedding".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmseek._types import Content, Part, Text
from mmseek.errors import ItemError
from mmseek.evaluation.formats.contents import picture_of, pictures_in
from mmseek.training.data.rows import TrainingRow
from mmseek.training.data.tables import TableSource, documents, query_of, tables

if TYPE_CHECKING:
    from mmseek.training.settings import SourceConfig

__all__ = ["open_source", "parse_row"]

_MARK: Final = "<image>"


def open_source(config: SourceConfig) -> TableSource:
    """The reader of `format: swift`."""
    path = Path(config.path)
    find = pictures_in(path if path.is_dir() else path.parent)
    return TableSource(
        tables(path, config.split),
        lambda value: parse_row(value, find, config.instruction),
        name=config.name or path.stem,
        limit=config.limit,
    )


def parse_row(value: Mapping[str, Any], find: Callable[[str], Path], instruction: str | None = None) -> TrainingRow:
    """One line.

    Raises:
        ItemError: it has no conversation or no positive, or pictures and marks do not go together.
    """
    if "messages" not in value:
        return _older(value, find, instruction)
    text, asked = _turns(value["messages"])
    query = _content(text, value.get("images"), find, "the query")
    positives = _conversations(value, "positive", find)
    if not positives:
        raise ItemError("has no positive_messages: give at least one conversation that the query should find")
    negatives = _conversations(value, "negative", find)
    return TrainingRow(query_of(query, asked or instruction), documents(positives), documents(negatives))


def _older(value: Mapping[str, Any], find: Callable[[str], Path], instruction: str | None) -> TrainingRow:
    query, response = value.get("query"), value.get("response")
    if not isinstance(query, str) or not isinstance(response, str) or not response.strip():
        raise ItemError("has neither messages nor query and response")
    wrong = value.get("rejected_response") or []
    wrong = [wrong] if isinstance(wrong, str) else wrong
    if not isinstance(wrong, list) or not all(isinstance(each, str) and each.strip() for each in wrong):
        raise ItemError("rejected_response must be a text or a list of texts")
    own = value.get("system")
    return TrainingRow(
        query_of(_content(query, value.get("images"), find, "the query"), own if isinstance(own, str) else instruction),
        documents([Content((Text(response),))]),
        documents([Content((Text(each),)) for each in wrong]),
    )


def _conversations(value: Mapping[str, Any], kind: str, find: Callable[[str], Path]) -> list[Content]:
    conversations = value.get(f"{kind}_messages") or []
    pictures = value.get(f"{kind}_images") or [None] * len(conversations)
    if not isinstance(conversations, list) or not isinstance(pictures, list) or len(pictures) != len(conversations):
        raise ItemError(f"{kind}_messages and {kind}_images must be lists of one length")
    return [
        _content(_turns(turns)[0], own, find, f"number {place} of {kind}_messages")
        for place, (turns, own) in enumerate(zip(conversations, pictures, strict=True), start=1)
    ]


def _turns(turns: object) -> tuple[str, str | None]:
    """The text of a conversation without its system turn, and that turn."""
    if not isinstance(turns, list) or not all(isinstance(each, dict) for each in turns):
        raise ItemError("a conversation is not a list of turns with role and content")
    texts = [(each.get("role"), each.get("content")) for each in turns]
    if not all(isinstance(text, str) for _, text in texts):
        raise ItemError("the content of a turn is not a text")
    system = next((text for role, text in texts if role == "system" and text.strip()), None)
    return "\n".join(text for role, text in texts if role != "system"), system


def _content(text: str, pictures: object, find: Callable[[str], Path], what: str) -> Content:
    """Text with its pictures where the marks are; without marks, pictures stand first."""
    given = [] if pictures in (None, "") else pictures if isinstance(pictures, list) else [pictures]
    images = [image for image in (picture_of(each, find) for each in given) if image is not None]
    pieces = text.split(_MARK)
    marks = len(pieces) - 1
    if marks not in (0, len(images)):
        raise ItemError(f"{what} has {marks} marks {_MARK} for {len(images)} pictures")
    parts: list[Part] = [] if marks else list(images)
    for place, piece in enumerate(pieces):
        parts += [images[place - 1]] if place else []
        parts += [Text(piece.strip())] if piece.strip() else []
    if not parts:
        raise ItemError(f"{what} is empty")
    return Content(tuple(parts))
