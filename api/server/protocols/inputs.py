"""From other systems' inputs to ours: strings, objects and lists of parts, pictures sent along or named by URLs."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mmseek._addresses import AddressRules, picture_at
from mmseek._types import Content, EncodeRequest, Image, Part, Role, Text
from mmseek.api.server.fetched import refused
from mmseek.api.server.limits import ServerLimits
from mmseek.errors import EncodeError, InputError, ItemError, MmseekError
from mmseek.fetching import is_url
from mmseek.jsonl import check_text

_QUERY_WORDS: Final = frozenset({"query", "search_query", "retrieval.query", "s2p_query", "s2s_query"})
_DOCUMENT_WORDS: Final = frozenset({"document", "passage", "search_document", "retrieval.passage", "image"})
# Names of tasks that have no sides: both are encoded as documents are.
_SIDELESS: Final = frozenset({"classification", "clustering", "text-matching", "separation", "code"})
_PICTURE_PARTS: Final = ("image_url", "image_base64", "image", "input_image")

TOKENS_REFUSED: Final = (
    "token ids cannot be used, because they belong to another model's tokenizer: send the text itself "
    "(in LangChain: check_embedding_ctx_length=False)"
)


def role_of(word: str | None) -> Role:
    """The side that another system's word for it means; without any, the document's.

    Raises:
        InputError: the word is none of theirs.
    """
    if word is None or word in _DOCUMENT_WORDS or word in _SIDELESS:
        return "document"
    if word in _QUERY_WORDS:
        return "query"
    raise InputError(f"{word[:60]!r} is no side of a retrieval: use query or document")


def check_count(count: int, what: str, limits: ServerLimits) -> None:
    """Refuse too many items, and none.

    Raises:
        InputError: says which of the two.
    """
    if not count:
        raise InputError(f"{what} is empty: give at least one item")
    if count > limits.max_inputs:
        raise InputError(f"{what} has {count} items, and {limits.max_inputs} are the most: send several requests")


def placed(error: MmseekError, place: str) -> MmseekError:
    """The same error with the place of the item that it is about."""
    if isinstance(error, ItemError):
        return ItemError(f"{place}: {error.reason}")
    if isinstance(error, InputError | EncodeError):
        return type(error)(f"{place}: {error}")
    return error


def read_inputs(
    value: object, what: str, limits: ServerLimits, *, role: Role, instruction: str | None = None, image: bool = False
) -> list[EncodeRequest]:
    """One request an item of `value`, which is one item or a list of them.

    An item is a string, or an object with `text` and `image`, or with `content`, a list of parts; an object's own
    `instruction` makes it a query.

    Args:
        value: what the body holds.
        what: its name there, for messages.
        limits: of the service.
        role: the side of items that do not say.
        instruction: of all items that have none.
        image: whether strings are pictures.

    Raises:
        MmseekError: what is wrong with which item.
    """
    single = not isinstance(value, list)
    items: list[Any] = [value] if single else value  # type: ignore[assignment]
    if any(isinstance(item, int) for item in items) or (
        items and isinstance(items[0], list) and items[0] and isinstance(items[0][0], int)
    ):
        raise InputError(f"{what}: {TOKENS_REFUSED}")
    check_count(len(items), what, limits)
    if instruction is not None:
        _checked(instruction, "instruction")
    requests = []
    for place, item in enumerate(items):
        try:
            own = _instruction(item)
            content = Content((_picture(item, limits),)) if image and isinstance(item, str) else read_item(item, limits)
        except MmseekError as error:
            raise placed(error, what if single else f"{what}[{place}]") from error
        requests.append(EncodeRequest(content, "query" if own else role, own or instruction))
    return requests


def read_item(item: object, limits: ServerLimits) -> Content:
    """The content of one item.

    Raises:
        ItemError: it is none.
        UrlRefused: a picture is to be fetched.
    """
    if isinstance(item, str):
        return Content((Text(_checked(item, "it")),))
    if not isinstance(item, Mapping):
        raise ItemError("must be a string or an object with text, image or content")
    if item.get("content") is not None:
        return Content(tuple(read_parts(item["content"], limits)))
    parts: list[Part] = []
    if item.get("image") is not None:
        parts.append(_picture(item["image"], limits))
    if item.get("text") is not None:
        parts.append(Text(_checked(item["text"], "text")))
    if not parts:
        raise ItemError("has neither text nor image nor content")
    return Content(tuple(parts))


def read_parts(parts: object, limits: ServerLimits) -> list[Part]:
    """The parts of a content, in their order; a string is a single text.

    Raises:
        ItemError: one of them is none that can be used.
        UrlRefused: a picture is to be fetched.
    """
    if isinstance(parts, str):
        return [Text(_checked(parts, "content"))]
    if not isinstance(parts, list) or not parts:
        raise ItemError("content must be a list of at least one part")
    return [_part(part, limits) for part in parts]


def read_messages(messages: Sequence[object], limits: ServerLimits) -> EncodeRequest:
    """One prompt of a chat: what its messages hold, in order. A system's message is the instruction of a query.

    Raises:
        MmseekError: what is wrong with which message.
    """
    check_count(len(messages), "messages", limits)
    parts: list[Part] = []
    instructions: list[str] = []
    for place, message in enumerate(messages):
        try:
            if not isinstance(message, Mapping):
                raise ItemError("must be an object with role and content")
            found = read_parts(message.get("content"), limits)
        except MmseekError as error:
            raise placed(error, f"messages[{place}]") from error
        if message.get("role") == "system":
            instructions += [part.text for part in found if isinstance(part, Text)]
        else:
            parts += found
    instruction = "\n".join(instructions) or None
    return EncodeRequest(Content(tuple(parts)), "query" if instruction else "document", instruction)


def _part(part: object, limits: ServerLimits) -> Part:
    if isinstance(part, str):
        return Text(_checked(part, "a part"))
    if not isinstance(part, Mapping):
        raise ItemError("a part of content must be an object with a type")
    kind = part.get("type")
    if kind in ("text", "input_text"):
        return Text(_checked(part.get("text"), "text"))
    if kind in _PICTURE_PARTS:
        given = part.get("image_url" if kind == "input_image" else kind)
        return _picture(given.get("url") if isinstance(given, Mapping) else given, limits)
    raise ItemError(f"a part is of type {str(kind)[:40]!r}, and text and pictures are what can be used")


def _picture(address: object, limits: ServerLimits) -> Image:
    """A picture that is sent along, a data: URI or bare base64; or where the server fetches them, its URL."""
    if not isinstance(address, str):
        raise ItemError("a picture must be a string: a data: URI or base64")
    if is_url(address):
        if limits.fetcher is None:
            raise refused()
        return Image(url=address)
    if address[:5].lower() == "data:":
        return picture_at(address, "a picture", AddressRules(None, False, limits.media.max_bytes))
    if len(address) // 4 * 3 > limits.media.max_bytes + 2:
        raise ItemError(f"a picture has more than the {limits.media.max_bytes} bytes allowed: make it smaller")
    try:
        data = base64.b64decode(address, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ItemError("a picture is neither a data: URI nor base64") from error
    if not data:
        raise ItemError("a picture has no byte")
    return Image(data=data)


def _instruction(item: object) -> str | None:
    found = item.get("instruction") if isinstance(item, Mapping) else None
    return None if found is None else _checked(found, "instruction")


def _checked(text: object, what: str) -> str:
    if not isinstance(text, str):
        raise ItemError(f"{what} must be a string")
    try:
        check_text(text)
    except ItemError as error:
        raise ItemError(f"{what} {error.reason}") from error
    return text
