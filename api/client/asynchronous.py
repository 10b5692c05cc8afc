"""The client for programs that do several things at a time; otherwise the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

import httpx
import tenacity

from mmseek.api.client import calls
from mmseek.api.client.asking import EventReader
from mmseek.api.client.failures import Unreachable, failure
from mmseek.api.client.requests import Picture, SearchOptions, batches
from mmseek.api.client.retrying import Retry

if TYPE_CHECKING:
    from mmseek._types import Content, Document
    from mmseek.api.client.answers import Added, CollectionStatus, SearchAnswer
    from mmseek.api.client.asking import AskAnswer, AskEvent, AskOptions

T = TypeVar("T")


class AsyncClient:
    """Speaks with one running `mmseek serve`.

    Examples:
        >>> async with AsyncClient("http://127.0.0.1:8000") as client:
        ...     for hit in await client.search("a red bike", k=5):
        ...         print(hit.rank, hit.id, hit.score)

    Args:
        url: of the server; it may have a path, behind a proxy.
        key: an API key, if the server asks for one.
        timeout: seconds that a step of a request may take; 60 unless given, 10 to connect.
        retry: when a request is sent again.
        transport: of httpx, in place of the network.

    Every method raises `MmseekError`: the class that the server raised where its code names one, `Unreachable` where no
    answer came, `Busy` where the server has too much to do, `KeyRefused`, or `BadAnswer`.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        key: str | None = None,
        timeout: float | None = None,
        retry: Retry | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._url = url
        self._timeout = timeout
        self._http = httpx.AsyncClient(transport=transport, **calls.client_options(url, key, timeout))
        self._retry = retry or Retry()

    async def search(
        self,
        query: str | Content | None = None,
        *,
        image: Picture | None = None,
        **options: Unpack[SearchOptions],
    ) -> SearchAnswer:
        """The documents nearest to a text, a picture, or both.

        Args:
            query: text, or content whose pictures are files or bytes.
            image: a picture beside the text: a path, bytes, an `Image` or a PIL picture.
            options: as of `Retriever.search`, and `threshold`; by default as the server has them.
        """
        return await self._do(calls.search(self._url, query, image, options))

    async def search_upload(
        self, image: Picture, text: str | None = None, **options: Unpack[SearchOptions]
    ) -> SearchAnswer:
        """The same with a picture sent as a file; of the options only instruction, k, mode, filter and rerank."""
        return await self._do(calls.search_upload(self._url, image, text, options))

    async def ask(
        self, question: str | Content | None = None, *, image: Picture | None = None, **options: Unpack[AskOptions]
    ) -> AskAnswer:
        """An answer from the collection, with its sources, by the chat endpoint that the server is set up with.

        Args:
            question: text, or content whose pictures are files or bytes.
            image: a picture beside the text.
            options: as of `POST /v1/ask`; by default as the server has them.
        """
        call = calls.ask(self._url, question, image, options, timeout=self._timeout, stream=False)
        return await self._do(call)

    async def ask_stream(
        self, question: str | Content | None = None, *, image: Picture | None = None, **options: Unpack[AskOptions]
    ) -> AsyncIterator[AskEvent]:
        """The same as it comes: `AskedSources`, then `AnswerText`s, then the whole `AskAnswer`.

        Closing it ends the work. What is given is as of `ask`.
        """
        call = calls.ask(self._url, question, image, options, timeout=self._timeout, stream=True)
        answer = await self._send(call, stream=True)
        try:
            if answer.status_code not in call.accepts:
                raise failure(answer)
            reader = EventReader(calls.address(self._url))
            async for line in answer.aiter_lines():
                if (event := reader.read(line)) is not None:
                    yield event
            if not reader.ended:
                raise reader.broken()
        except httpx.HTTPError as error:
            raise Unreachable(calls.unreachable(self._url, error)) from error
        finally:
            await answer.aclose()

    async def add(self, documents: Iterable[Document | Mapping[str, Any]]) -> Added:
        """Add documents, or replace those of equal id, in requests of bounded size; pictures are sent along.

        Args:
            documents: `Document`s, or items as in a JSONL file with pictures as data: URIs. Read as they are sent.
        """
        outcomes: list[Added] = []
        sent = 0
        for batch in batches(documents):
            outcomes.append(await self._do(calls.add(batch, sent)))
            sent += len(batch)
        return calls.sum_up(outcomes)

    async def get(self, document_id: str) -> Document:
        """A document; its pictures are URLs of the service.

        Raises:
            NotFound: there is none.
        """
        return await self._do(calls.get(self._url, document_id))

    async def delete(self, ids: Sequence[str]) -> int:
        """Remove documents, and return how many there were; unknown ids are no error."""
        return await self._do(calls.delete(ids)) if ids else 0

    async def picture(self, document_id: str, number: int = 0, *, side: int | None = None) -> bytes:
        """The file of a document's picture, counted from 0; with `side`, a small copy of about that many pixels.

        Raises:
            NotFound: there is none.
        """
        return await self._do(calls.picture(document_id, number, side))

    async def info(self) -> CollectionStatus:
        """What the collection holds."""
        return await self._do(calls.info())

    async def is_ready(self) -> bool:
        """Whether the server can serve requests now; asked once.

        Raises:
            Unreachable: there is no server.
        """
        return await self._do(calls.ready(), Retry(attempts=1))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _do(self, call: calls.Call[T], retry: Retry | None = None) -> T:
        return call.result(await self._send(call, retry))

    async def _send(self, call: calls.Call[Any], retry: Retry | None = None, *, stream: bool = False) -> httpx.Response:
        """The answer, whatever it says; with `stream`, of which only the status has been read."""
        retrying = tenacity.AsyncRetrying(**(retry or self._retry).options(call.again))
        try:
            answer: httpx.Response = await retrying(self._request, call, stream=stream)
        except httpx.HTTPError as error:
            raise Unreachable(calls.unreachable(self._url, error)) from error
        return answer

    async def _request(self, call: calls.Call[Any], *, stream: bool) -> httpx.Response:
        request = self._http.build_request(call.method, call.path, **call.arguments())
        answer = await self._http.send(request, stream=stream)
        if answer.status_code not in call.accepts:
            await answer.aread()  # which also gives its connection back
        return answer
