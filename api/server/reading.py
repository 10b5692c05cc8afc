"""From the bodies of requests to queries and documents. Nothing here opens a file or an address: see `fetched`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from mmseek._types import Content, GroupBy, Query, SearchMode, Weighted
from mmseek.api.server.fetched import Fetched, filled, refused, urls_of_items
from mmseek.api.server.limits import ServerLimits
from mmseek.api.server.schemas import AskBody, SearchBody, WeightedBody
from mmseek.errors import FetchError, InputError, ItemError, MmseekError
from mmseek.index.corpus import Located
from mmseek.items import Item, parse_item
from mmseek.jsonl import check_text


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
_NOTHING: Final[Fetched] = MappingProxyType({})


def urls_of_query(body: SearchBody | AskBody) -> Iterator[str]:
    """The URLs of its pictures."""
    return urls_of_items([_item(body), *map(_item, body.also if isinstance(body, SearchBody) else ())])


def read_query(
    body: SearchBody, limits: ServerLimits, content: Content | None = None, found: Fetched = _NOTHING
) -> Query:
    """The query of a search.

    Args:
        body: as it was sent.
        limits: what it may ask for.
        content: what is asked, if it did not come in the body.
        found: what the URLs of its pictures gave.

    Raises:
        InputError: it is empty, asks for too much, or names a picture that is not sent along.
    """
    if content is None:
        content = Content(()) if _says_nothing(body) else _read_content(body, "query", limits, found)
    check_ids(body.like, "like", limits)
    check_ids(body.unlike, "unlike", limits)
    also = tuple(
        Weighted(_read_content(each, f"also[{number}]", limits, found), each.weight)
        for number, each in enumerate(body.also)
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


def _item(body: SearchBody | AskBody | WeightedBody) -> dict[str, Any]:
    given = {"text": body.text, "image": body.image, "content": body.content}
    return {key: value for key, value in given.items() if value is not None}


def _read_content(body: SearchBody | WeightedBody, name: str, limits: ServerLimits, found: Fetched) -> Content:
    try:
        return filled(read_item(_item(body), limits).content, found)
    except ItemError as error:
        raise InputError(f"{name}: {error.reason}") from error
    except FetchError as error:
        raise FetchError(f"{name}: {error}") from error


def read_item(item: object, limits: ServerLimits) -> Item:
    """An item that was sent. Its pictures are inside, or URLs that may be fetched; paths are refused.

    Raises:
        ItemError: it is none.
        UrlRefused: it names a URL, and nothing is fetched here.
    """
    if limits.fetcher is None and any(urls_of_items([item])):
        raise refused()
    return parse_item(item, base=None, allow_urls=True, limits=limits.media)


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


def read_documents(
    items: Sequence[object], limits: ServerLimits, found: Fetched = _NOTHING
) -> Iterator[Located | Failure]:
    """The documents of a request. `line` is the position plus 1, by which later failures find their place."""
    for position, item in enumerate(items):
        try:
            document = read_item(item, limits).to_document()
            document = replace(document, content=filled(document.content, found))
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
