"""Pictures that a request or a job names by URL: fetched before anything waits for a model, or refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias

from mmseek._types import Content, Image
from mmseek.api.server.waiting import for_client
from mmseek.errors import FetchError, InputError, MmseekError, UrlRefused
from mmseek.fetching import is_url
from mmseek.media import recognise

if TYPE_CHECKING:
    from mmseek.api.server.limits import ServerLimits

__all__ = ["Fetched", "fetched", "filled", "refused", "urls_of_contents", "urls_of_items"]

_MOST: Final = 64  # URLs of one request
_AT_ONCE: Final = 8

# What each URL gave, or why it cannot be had.
Fetched: TypeAlias = Mapping[str, Image | MmseekError]


def refused() -> UrlRefused:
    """What a URL is answered with where nothing is fetched."""
    return UrlRefused("pictures are not fetched from URLs here: send the picture as a data: URI")


def urls_of_items(items: Iterable[object]) -> Iterator[str]:
    """The URLs of pictures in objects of the item format, whatever else they are."""
    for item in items:
        if not isinstance(item, Mapping):
            continue
        parts = item.get("content")
        for holder in (item, *(parts if isinstance(parts, list) else ())):
            address = holder.get("image") if isinstance(holder, Mapping) else None
            if isinstance(address, str) and is_url(address):
                yield address


def urls_of_contents(contents: Iterable[Content]) -> Iterator[str]:
    """The URLs of pictures in contents."""
    return (image.url for content in contents for image in content.images if image.url is not None)


async def fetched(urls: Iterable[str], limits: ServerLimits) -> Fetched:
    """What URLs give; without a fetcher nothing. One that comes again is fetched once.

    Of all pictures together no more is kept than a body may have. Ends when the request's client hangs up or its time
    is over.

    Raises:
        InputError: there are too many.
        ClientGone: the client hung up.
        DeadlineExceeded: the request's time is over.
    """
    wanted = list(dict.fromkeys(urls))
    fetcher = limits.fetcher
    if not wanted or fetcher is None:
        return {}
    if len(wanted) > _MOST:
        raise InputError(f"{len(wanted)} URLs are named at once, and {_MOST} are the most: name fewer")
    turn = asyncio.Semaphore(_AT_ONCE)
    budget = _Budget(limits.max_body_bytes)

    async def one(url: str) -> Image | MmseekError:
        async with turn:
            try:
                return Image(data=budget.taken((await fetcher.fetch_async(url, _check)).data))
            except MmseekError as error:
                return error

    return dict(zip(wanted, await for_client(asyncio.gather(*map(one, wanted))), strict=True))


def filled(content: Content, found: Fetched) -> Content:
    """The content with the bytes of its pictures in place of their URLs.

    Raises:
        MmseekError: why the first one cannot be had.
    """
    if not any(image.url is not None for image in content.images):
        return content
    parts = []
    for part in content.parts:
        picture = found.get(part.url, refused()) if isinstance(part, Image) and part.url is not None else part
        if isinstance(picture, MmseekError):
            raise picture
        parts.append(picture)
    return replace(content, parts=tuple(parts))


class _Budget:
    """How many bytes the pictures of a request may still have."""

    def __init__(self, most: int) -> None:
        self._most = self._left = most

    def taken(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise FetchError(f"the pictures at URLs have more than {self._most} bytes together: name fewer at once")
        return data


def _check(head: bytes) -> None:
    if recognise(head) is None:
        raise FetchError("an address gives no picture of a known format: send the picture as a data: URI")
