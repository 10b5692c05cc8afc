"""mmseek's item format: one JSON object an item, one item a line. Reading, checking and writing it."""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from mmseek._addresses import AddressRules, address_of, picture_at, video_at
from mmseek._types import Content, Document, Image, Part, Role, Text
from mmseek.errors import InputError, ItemError, StorageError
from mmseek.jsonl import MAX_LINE_BYTES, check_json, check_text, read_json_lines
from mmseek.media import MediaLimits
from mmseek.video import FRAMES

__all__ = ["MAX_ID_LENGTH", "Item", "item_to_json", "parse_item", "read_items", "write_items"]

MAX_ID_LENGTH: Final = 512

_KEYS: Final = ("id", "text", "image", "content", "metadata", "parent_id", "role", "instruction")
_PART_KEYS: Final = {"text": ("type", "text"), "image": ("type", "image"), "video": ("type", "video", "frames")}
_MOST_FRAMES: Final = 64
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_DEFAULT_LIMITS: Final = MediaLimits()


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a file: a document that may still lack an id, or something to encode as a query.

    `role` and `instruction` matter to encoding only; a document does not keep them.
    """

    content: Content
    id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    parent_id: str | None = None
    role: Role = "document"
    instruction: str | None = None

    def to_document(self) -> Document:
        """The item as a document of a collection.

        Raises:
            ItemError: it has no id.
        """
        if self.id is None:
            raise ItemError("has no id: a document needs one")
        return Document(self.id, self.content, self.metadata, self.parent_id)


def parse_item(
    obj: object,
    *,
    base: Path | None,
    allow_urls: bool = False,
    source: str | Path | None = None,
    line: int | None = None,
    limits: MediaLimits = _DEFAULT_LIMITS,
) -> Item:
    """Check one decoded JSON object and make an item of it. Whether a picture's file exists is not looked at.

    A key whose value is null counts as absent.

    Args:
        obj: the object: `id, text, image, content, metadata, parent_id, role, instruction`, all optional but content.
        base: the folder that relative paths of pictures start from; None refuses every path, which is right for objects
            that come over a network. `Path()` keeps paths as they are written.
        allow_urls: whether a picture may be an http(s) URL. It is not fetched here.
        source, line: the place for messages.
        limits: of the bytes of a picture in a `data:` URI.

    Raises:
        ItemError: what is wrong with it, at which place.
    """
    try:
        given = _known(obj, _KEYS, "the item")
        return Item(
            content=_content(given, AddressRules(base, allow_urls, limits.max_bytes, limits.max_video_bytes)),
            id=_identifier(given, "id"),
            metadata=_metadata(given),
            parent_id=_identifier(given, "parent_id"),
            role=_role(given),
            instruction=_string(given, "instruction"),
        )
    except ItemError as error:
        raise ItemError(error.reason, source=source, line=line, item_id=_id_if_any(obj)) from error.__cause__


def read_items(
    path: Path | str,
    *,
    allow_urls: bool = False,
    limits: MediaLimits = _DEFAULT_LIMITS,
    max_line_bytes: int = MAX_LINE_BYTES,
) -> Iterator[Item | ItemError]:
    """Read a JSONL file of items in bounded memory; a bad line is yielded as an error in its place.

    Paths of pictures are relative to the file's folder.

    Raises:
        InputError: the file itself cannot be read; see `read_json_lines`.
    """
    path = Path(path)
    for row in read_json_lines(path, max_line_bytes=max_line_bytes):
        if isinstance(row, ItemError):
            yield row
            continue
        try:
            yield parse_item(
                row.value, base=path.parent, allow_urls=allow_urls, source=path, line=row.line, limits=limits
            )
        except ItemError as error:
            yield error


def item_to_json(item: Item | Document, *, relative_to: Path | None = None) -> dict[str, Any]:
    """The JSON object of an item; `parse_item` makes an equal item of it.

    Args:
        item: an item or a document.
        relative_to: the folder of the file that the object will stand in. Pictures below it are written relative to it,
            others with their absolute path. None writes every path as it is.

    Raises:
        ItemError: something in it has no place in JSON.
    """
    item_id = item.id
    try:
        _check_texts(item)
        found: dict[str, Any] = {} if item_id is None else {"id": item_id}
        found |= _content_to_json(item.content, relative_to)
        if item.metadata:
            found["metadata"] = _checked_metadata(item.metadata)
        if item.parent_id is not None:
            found["parent_id"] = item.parent_id
        if isinstance(item, Item):
            if item.role != "document":
                found["role"] = item.role
            if item.instruction is not None:
                found["instruction"] = item.instruction
    except ItemError as error:
        raise ItemError(error.reason, item_id=item_id) from error.__cause__
    return found


def write_items(path: Path | str, items: Iterable[Item | Document]) -> int:
    """Write a JSONL file: wholly, or not at all. Returns how many items.

    Pictures below the file's folder are written with relative paths.

    Raises:
        InputError: the folder is not there, or the path is a folder or device.
        ItemError: an item cannot be written; the file is as it was.
        StorageError: the disk is full or read-only; the file is as it was.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: the folder {path.parent} does not exist")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a file that can be replaced: give another path")
    scratch = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.tmp")
    try:
        count = _write(scratch, items, path.parent)
        scratch.replace(path)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StorageError(f"{path} cannot be written ({reason}): check the disk and its permissions") from error
    finally:
        with suppress(OSError):  # gone already if all went well
            scratch.unlink()
    return count


def _write(scratch: Path, items: Iterable[Item | Document], folder: Path) -> int:
    count = 0
    with scratch.open("x", encoding="utf-8", newline="\n") as file:
        for item in items:
            row = json.dumps(item_to_json(item, relative_to=folder), ensure_ascii=False, allow_nan=False)
            file.write(row + "\n")
            count += 1
        file.flush()
        os.fsync(file.fileno())
    return count


def _known(obj: object, keys: tuple[str, ...], what: str) -> dict[str, Any]:
    if not isinstance(obj, Mapping):
        raise ItemError(f"{what} must be a JSON object, not {_kind(obj)}")
    for key in obj:
        if key not in keys:
            raise ItemError(f"{what} has the unknown key {_short(key)}: the keys are {', '.join(keys)}")
    return {key: value for key, value in obj.items() if value is not None}


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)


def _string(given: Mapping[str, Any], key: str, what: str | None = None) -> str | None:
    value = given.get(key)
    if value is None:
        return None
    what = what or key
    if not isinstance(value, str):
        raise ItemError(f"{what} must be a string, not {_kind(value)}")
    try:
        check_text(value)
    except ItemError as error:
        raise ItemError(f"{what} {error.reason}") from error
    return value


def _identifier(given: Mapping[str, Any], key: str) -> str | None:
    value = _string(given, key)
    if value is None:
        return None
    if not value.strip():
        raise ItemError(f"{key} must not be empty")
    if len(value) > MAX_ID_LENGTH:
        raise ItemError(f"{key} has {len(value)} characters, more than the {MAX_ID_LENGTH} allowed")
    if _CONTROL.search(value):
        raise ItemError(f"{key} must not hold control characters such as tab or newline")
    return value


def _id_if_any(obj: object) -> str | None:
    """The id for the report of an item that is broken elsewhere."""
    try:
        return _identifier(obj, "id") if isinstance(obj, Mapping) else None
    except ItemError:
        return None


def _role(given: Mapping[str, Any]) -> Role:
    role = given.get("role", "document")
    if role not in ("query", "document"):
        raise ItemError(f'role must be "query" or "document", not {_short(role)}')
    return cast(Role, role)


def _metadata(given: Mapping[str, Any]) -> dict[str, Any]:
    metadata = given.get("metadata", {})
    if not isinstance(metadata, Mapping):
        raise ItemError(f"metadata must be a JSON object, not {_kind(metadata)}")
    return _checked_metadata(metadata)


def _checked_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(metadata)
    try:
        check_json(found)
    except ItemError as error:
        raise ItemError(f"metadata {error.reason}") from error
    return found


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _content(given: Mapping[str, Any], rules: AddressRules) -> Content:
    if "content" in given:
        both = [key for key in ("text", "image") if key in given]
        if both:
            raise ItemError(f"has both content and {both[0]}: give the one or the other")
        content = Content(_parts(given["content"], rules))
    else:
        image, text = _string(given, "image"), _string(given, "text")
        pictures = () if image is None else (picture_at(image, "image", rules),)
        # Blank text beside a picture says nothing, and a model would still see it.
        words = () if text is None or (pictures and not text.strip()) else (Text(text),)
        content = Content((*pictures, *words))
    if content.is_empty:
        raise ItemError("has neither text nor image")
    return content


def _parts(value: object, rules: AddressRules) -> tuple[Part, ...]:
    if not isinstance(value, list | tuple):
        raise ItemError(f"content must be a list of parts, not {_kind(value)}")
    return tuple(
        found for number, part in enumerate(value, start=1) for found in _part(part, f"part {number} of content", rules)
    )


def _part(value: object, what: str, rules: AddressRules) -> tuple[Part, ...]:
    """One text or picture, or the frames of a video."""
    if not isinstance(value, Mapping):
        raise ItemError(f"{what} must be a JSON object, not {_kind(value)}")
    kind = value.get("type")
    if not isinstance(kind, str) or kind not in _PART_KEYS:
        found = "missing" if kind is None else _short(kind)
        raise ItemError(f'the type of {what} must be "text", "image" or "video", but is {found}')
    given = _known(value, _PART_KEYS[kind], what)
    body = _string(given, kind, f"the {kind} of {what}")
    if body is None:
        raise ItemError(f"{what} is of type {kind} but has no {kind}")
    if kind == "text":
        return (Text(body),)
    if kind == "image":
        return (picture_at(body, f"the image of {what}", rules),)
    frames = given.get("frames", FRAMES)
    if not isinstance(frames, int) or isinstance(frames, bool) or not 1 <= frames <= _MOST_FRAMES:
        raise ItemError(f"frames of {what} must be a whole number from 1 to {_MOST_FRAMES}, not {_short(frames)}")
    return Content.frames(video_at(body, f"the video of {what}", rules), frames).parts


def _content_to_json(content: Content, relative_to: Path | None) -> dict[str, Any]:
    parts = content.parts
    match parts:
        case (Text(text),):
            return {"text": text}
        case (Image(frame=None) as image,):
            return {"image": address_of(image, relative_to)}
        case (Image(frame=None) as image, Text(text)) if text.strip():
            return {"image": address_of(image, relative_to), "text": text}
    found, place = [], 0
    while place < len(parts):
        part = parts[place]
        whole = _video_at(parts, place)
        found.append(_part_to_json(part, whole, relative_to))
        place += whole or 1
    return {"content": found}


def _video_at(parts: tuple[Part, ...], place: int) -> int:
    """How many parts from here on are all frames of one video in order; 0 if this is no such video."""
    first = parts[place]
    if isinstance(first, Text) or first.frame is None:
        return 0
    count = first.frame[1]
    return count if parts[place : place + count] == Content.frames(first.path or first.data or b"", count).parts else 0


def _part_to_json(part: Part, frames: int, relative_to: Path | None) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if frames:
        more = {} if frames == FRAMES else {"frames": frames}
        return {"type": "video", "video": address_of(part, relative_to), **more}
    if part.frame is not None:
        raise ItemError("holds some frames of a video and not all in order: only whole videos have a place in JSON")
    return {"type": "image", "image": address_of(part, relative_to)}


def _check_texts(item: Item | Document) -> None:
    instruction = item.instruction if isinstance(item, Item) else None
    urls = (image.url for image in item.content.images)
    for text in (item.id, item.parent_id, instruction, *urls, *item.content.texts):
        check_text(text or "")
