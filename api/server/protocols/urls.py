"""Pictures of a request that are named by URLs: fetched before the request waits for a model."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from mmseek._types import Content, Image
from mmseek.api.server.limits import ServerLimits
from mmseek.errors import FetchError, InputError, MmseekError
from mmseek.media import recognise

__all__ = ["fetched"]

_MOST: Final = 64  # URLs of one request
_AT_ONCE: Final = 8


async def fetched(contents: Sequence[Content], limits: ServerLimits) -> list[Content | MmseekError]:
    """The contents with the bytes of their pictures, or what is wrong with the first one that cannot be had.

    A URL that comes again is fetched once. Of all pictures together no more is kept than a body may have.

    Raises:
        InputError: there are too many.
    """
    urls = list(dict.fromkeys(image.url for content in contents for image in content.images if image.url is not None))
    if not urls or limits.fetcher is None:
        return list(contents)
    if len(urls) > _MOST:
        raise InputError(f"the request names {len(urls)} URLs, and {_MOST} are the most: send several requests")
    turn = asyncio.Semaphore(_AT_ONCE)
    budget = _Budget(limits.max_body_bytes)

    async def one(url: str) -> Image | MmseekError:
        async with turn:
            try:
                return Image(data=budget.taken((await limits.fetcher.fetch_async(url, _check)).data))  # type: ignore[union-attr]
            except MmseekError as error:
                return error

    found = dict(zip(urls, await asyncio.gather(*map(one, urls)), strict=True))
    return [_filled(content, found) for content in contents]


class _Budget:
    """How many bytes the pictures of a request may still have."""

    def __init__(self, most: int) -> None:
        self._most = self._left = most

    def taken(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left < 0:
            raise FetchError(f"the pictures of the request have more than {self._most} bytes: send several requests")
        return data


def _filled(content: Content, found: dict[str, Image | MmseekError]) -> Content | MmseekError:
    parts = [found[part.url] if isinstance(part, Image) and part.url is not None else part for part in content.parts]
    wrong = next((part for part in parts if isinstance(part, MmseekError)), None)
    return wrong or replace(content, parts=tuple(part for part in parts if not isinstance(part, MmseekError)))


def _check(head: bytes) -> None:
    if recognise(head) is None:
        raise FetchError("an address gives no picture of a known format: send the picture as a data: URI")
