"""The client for programs that do several things at a time; otherwise the same."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

import httpx
import tenacity

from mmseek.api.client import calls, managing
from mmseek.api.client.asking import EventReader
from mmseek.api.client.failures import Unreachable, failure
from mmseek.api.client.requests import Picture, batches
from mmseek.api.client.retrying import Retry
from mmseek.api.client.verbs import awaited

if TYPE_CHECKING:
    from mmseek._types import Content, Document
    from mmseek.api.client.answers import Added, JobStatus
    from mmseek.api.client.asking import AskEvent, AskOptions

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
        self._at = calls.Target(url, timeout=timeout)
        self._http = httpx.AsyncClient(transport=transport, **calls.client_options(url, key, timeout))
        self._retry = retry or Retry()

    search = awaited(calls.search)
    search_upload = awaited(calls.search_upload)
    recommend = awaited(calls.recommend)
    get = awaited(calls.get)
    get_many = awaited(calls.get_many)
    page = awaited(calls.page)
    delete_where = awaited(calls.delete_where)
    picture = awaited(calls.picture)
    info = awaited(calls.info)
    ask = awaited(calls.ask)
    collections = awaited(managing.collections)
    create_collection = awaited(managing.create_collection)
    delete_collection = awaited(managing.delete_collection)
    set_alias = awaited(managing.set_alias)
    remove_alias = awaited(managing.remove_alias)
    compact = awaited(managing.compact)
    start_job = awaited(managing.start_job)
    job = awaited(managing.job)
    jobs = awaited(managing.jobs)
    job_failures = awaited(managing.job_failures)
    cancel_job = awaited(managing.cancel_job)
    resume_job = awaited(managing.resume_job)
    forget_job = awaited(managing.forget_job)

    def collection(self, name: str) -> Self:
        """A client of one collection of the server, by its name or an alias; it shares the connections of this one."""
        other = copy.copy(self)
        other._at = managing.named(self._at, name)  # noqa: SLF001  # its own copy
        return other

    async def ask_stream(
        self, question: str | Content | None = None, *, image: Picture | None = None, **options: Unpack[AskOptions]
    ) -> AsyncIterator[AskEvent]:
        """The same as it comes: `AskedSources`, then `AnswerText`s, then the whole `AskAnswer`.

        Closing it ends the work. What is given is as of `ask`.
        """
        call = calls.ask_stream(self._at, question, image=image, **options)
        answer = await self._send(call, stream=True)
        try:
            if answer.status_code not in call.accepts:
                raise failure(answer)
            reader = EventReader(self._at.address)
            async for line in answer.aiter_lines():
                if (event := reader.read(line)) is not None:
                    yield event
            if not reader.ended:
                raise reader.broken()
        except httpx.HTTPError as error:
            raise Unreachable(calls.unreachable(self._at.url, error)) from error
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
            outcomes.append(await self._do(calls.add(self._at, batch, sent)))
            sent += len(batch)
        return calls.sum_up(outcomes)

    async def delete(self, ids: Sequence[str]) -> int:
        """Remove documents, and return how many there were; unknown ids are no error."""
        return await self._do(calls.delete(self._at, ids)) if ids else 0

    async def documents(self, filter: str | None = None, *, limit: int = 500) -> AsyncIterator[Document]:  # noqa: A002
        """All documents in the order of storing, `limit` a request; writes meanwhile neither hide nor repeat others."""
        cursor: str | None = None
        while True:
            found = await self.page(limit=limit, cursor=cursor, filter=filter)
            for document in found:
                yield document
            cursor = found.next
            if cursor is None:
                return

    async def wait_for_job(self, job_id: str, *, pause: float = 0.5) -> JobStatus:
        """A job when it has ended; asked for every `pause` seconds."""
        while not (found := await self.job(job_id)).ended:
            await asyncio.sleep(pause)
        return found

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
            raise Unreachable(calls.unreachable(self._at.url, error)) from error
        return answer

    async def _request(self, call: calls.Call[Any], *, stream: bool) -> httpx.Response:
        request = self._http.build_request(call.method, call.path, **call.arguments())
        answer = await self._http.send(request, stream=stream)
        if answer.status_code not in call.accepts:
            await answer.aread()  # which also gives its connection back
        return answer
