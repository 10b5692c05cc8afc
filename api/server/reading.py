"""From the bodies of requests to queries and documents. Nothing here opens a file or an address."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmseek._types import Content, GroupBy, Query, SearchMode, Weighted
from mmseek.api.server.limits import ServerLimits
from mmseek.api.server.schemas import SearchBody, WeightedBody
from mmseek.errors import InputError, ItemError, MmseekError, UrlRefused
from mmseek.index.corpus import Located
from mmseek.items import parse_item
from mmseek.jsonl import check_text
from mmseek.media import MediaLimits


@dataclass(frozen=True, slots=True)
class Failure:
    """A document of a request that cannot be stored; `position` counts from 0."""

    position: int
    id: str | None
    code: str
    message: str

    def to_json(self) -> dict[str, Any]:
        """As an answer shows it."""
        message = self.message.encode("utf-8", "backslashreplace").decode()
        return {"id": self.id, "position": self.position, "code": self.code, "message": message}


@dataclass(frozen=True, slots=True)
class Mixed:
    """What a query may be made of besides its content, and how its hits are grouped."""

    also: tuple[Weighted, ...] = ()
    like: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    group_by: GroupBy | None = None


_PLAIN = Mixed()


def read_query(body: SearchBody, limits: ServerLimits, content: Content | None = None) -> Query:
    """The query of a search.

    Args:
        body: as it was sent.
        limits: what it may ask for.
        content: what is asked, if it did not come in the body.

    Raises:
        InputError: it is empty, asks for too much, or names a picture that is not sent along.
    """
    if content is None:
        content = Content(()) if _says_nothing(body) else _read_content(body, "query", limits)
    check_ids(body.like, "like", limits)
    check_ids(body.unlike, "unlike", limits)
    also = tuple(
        Weighted(_read_content(each, f"also[{number}]", limits), each.weight) for number, each in enumerate(body.also)
    )
    return make_query(
        content,
        limits,
        k=body.k,
        instruction=body.instruction,
        exclude=body.exclude,
        candidates=body.candidates,
        mode=body.mode,
        filter=body.filter,
        mixed=Mixed(also, tuple(body.like), tuple(body.unlike), body.group_by),
    )


def _says_nothing(body: SearchBody) -> bool:
    """Whether the query is only of weighted parts and documents to be like or unlike."""
    return (body.text, body.image, body.content) == (None, None, None) and bool(body.also or body.like or body.unlike)


def _read_content(body: SearchBody | WeightedBody, name: str, limits: ServerLimits) -> Content:
    given = {"text": body.text, "image": body.image, "content": body.content}
    item = {key: value for key, value in given.items() if value is not None}
    try:
        refuse_urls(item)
        return parse_item(item, base=None, limits=limits.media).content
    except ItemError as error:
        raise InputError(f"{name}: {error.reason}") from error


def make_query(
    content: Content,
    limits: ServerLimits,
    *,
    k: int,
    instruction: str | None = None,
    exclude: Sequence[str] = (),
    candidates: Sequence[str] | None = None,
    mode: SearchMode = "dense",
    filter: str | None = None,  # noqa: A002  # the word that Query and the other surfaces use
    mixed: Mixed = _PLAIN,
) -> Query:
    """A query within the limits.

    Raises:
        InputError: it asks for too much, or a string in it is not valid Unicode.
    """
    if k > limits.max_k:
        raise InputError(f"k is {k}, and {limits.max_k} is the most: ask for less")
    check_ids(exclude, "exclude", limits)
    if candidates is not None:
        check_ids(candidates, "candidates", limits)
    if instruction is not None:
        check_string(instruction, "instruction")
    if filter is not None:
        check_string(filter, "filter")
    return Query(
        content=content,
        instruction=instruction,
        k=k,
        exclude=frozenset(exclude),
        candidates=None if candidates is None else frozenset(candidates),
        mode=mode,
        filter=filter,
        also=mixed.also,
        like=mixed.like,
        unlike=mixed.unlike,
        group_by=mixed.group_by,
    )


def check_ids(ids: Sequence[str], name: str, limits: ServerLimits) -> None:
    """Refuse too many ids, and ids that cannot be any document's.

    Raises:
        InputError: says which of the two.
    """
    if len(ids) > limits.max_ids:
        raise InputError(f"{name} has {len(ids)} ids, and {limits.max_ids} are the most: send several requests")
    for identifier in ids:
        check_string(identifier, name)


def read_documents(items: Sequence[object], media: MediaLimits) -> Iterator[Located | Failure]:
    """The documents of a request. `line` is the position plus 1, by which later failures find their place."""
    for position, item in enumerate(items):
        try:
            refuse_urls(item)
            document = parse_item(item, base=None, limits=media).to_document()
        except MmseekError as error:
            message = error.reason if isinstance(error, ItemError) else str(error)
            yield Failure(position, _id_of(item), own_code(error), message)
        else:
            yield Located(
                document.id, document.content, document.metadata, document.parent_id, "request", line=position + 1
            )


def own_code(error: MmseekError) -> str:
    """The code of what is wrong with an item: where its error only gives a place to another, that other's."""
    return error.kind if isinstance(error, ItemError) else error.code


def refuse_urls(item: object) -> None:
    """Refuse an item that asks the server to fetch a picture.

    Raises:
        UrlRefused: one of its pictures is an http(s) URL.
    """
    for picture in _pictures(item):
        if isinstance(picture, str) and picture[:8].lower().startswith(("http://", "https://")):
            raise UrlRefused("pictures are not fetched from URLs here: send the picture as a data: URI")


def _pictures(item: object) -> Iterator[object]:
    if isinstance(item, Mapping):
        yield item.get("image")
        parts = item.get("content")
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, Mapping):
                yield part.get("image")


def _id_of(item: object) -> str | None:
    """The id, if it can be shown."""
    identifier = item.get("id") if isinstance(item, Mapping) else None
    return identifier if isinstance(identifier, str) and identifier.isprintable() else None


def check_string(value: str, name: str) -> None:
    """Refuse what is not valid Unicode.

    Raises:
        InputError: says where it stands.
    """
    try:
        check_text(value)
    except ItemError as error:
        raise InputError(f"{name}: {error.reason}") from error
