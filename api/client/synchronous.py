"""The client that waits."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

import httpx
import tenacity

from mmseek.api.client import calls, managing
from mmseek.api.client.asking import EventReader
from mmseek.api.client.failures import Unreachable, failure
from mmseek.api.client.requests import Picture, batches
from mmseek.api.client.retrying import Retry
from mmseek.api.client.verbs import waits

if TYPE_CHECKING:
    from mmseek._types import Content, Document
    from mmseek.api.client.answers import Added, JobStatus
    from mmseek.api.client.asking import AskEvent, AskOptions

T = TypeVar("T")


class Client:
    """Speaks with one running `mmseek serve`.

    Examples:
        >>> with Client("http://127.0.0.1:8000") as client:
        ...     for hit in client.search("a red bike", k=5):
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
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._at = calls.Target(url, timeout=timeout)
        self._http = httpx.Client(transport=transport, **calls.client_options(url, key, timeout))
        self._retry = retry or Retry()

    search = waits(calls.search)
    search_upload = waits(calls.search_upload)
    recommend = waits(calls.recommend)
    get = waits(calls.get)
    get_many = waits(calls.get_many)
    page = waits(calls.page)
    delete_where = waits(calls.delete_where)
    picture = waits(calls.picture)
    info = waits(calls.info)
    ask = waits(calls.ask)
    collections = waits(managing.collections)
    create_collection = waits(managing.create_collection)
    delete_collection = waits(managing.delete_collection)
    set_alias = waits(managing.set_alias)
    remove_alias = waits(managing.remove_alias)
    compact = waits(managing.compact)
    start_job = waits(managing.start_job)
    job = waits(managing.job)
    jobs = waits(managing.jobs)
    job_failures = waits(managing.job_failures)
    cancel_job = waits(managing.cancel_job)
    resume_job = waits(managing.resume_job)
    forget_job = waits(managing.forget_job)

    def collection(self, name: str) -> Self:
        """A client of one collection of the server, by its name or an alias; it shares the connections of this one."""
        other = copy.copy(self)
        other._at = managing.named(self._at, name)  # noqa: SLF001  # its own copy
        return other

    def ask_stream(
        self, question: str | Content | None = None, *, image: Picture | None = None, **options: Unpack[AskOptions]
    ) -> Iterator[AskEvent]:
        """The same as it comes: `AskedSources`, then `AnswerText`s, then the whole `AskAnswer`.

        Closing it ends the work. What is given is as of `ask`.
        """
        call = calls.ask_stream(self._at, question, image=image, **options)
        answer = self._send(call, stream=True)
        try:
            if answer.status_code not in call.accepts:
                raise failure(answer)
            reader = EventReader(self._at.address)
            for line in answer.iter_lines():
                if (event := reader.read(line)) is not None:
                    yield event
            if not reader.ended:
                raise reader.broken()
        except httpx.HTTPError as error:
            raise Unreachable(calls.unreachable(self._at.url, error)) from error
        finally:
            answer.close()

    def add(self, documents: Iterable[Document | Mapping[str, Any]]) -> Added:
        """Add documents, or replace those of equal id, in requests of bounded size; pictures are sent along.

        Args:
            documents: `Document`s, or items as in a JSONL file with pictures as data: URIs. Read as they are sent.
        """
        outcomes: list[Added] = []
        sent = 0
        for batch in batches(documents):
            outcomes.append(self._do(calls.add(self._at, batch, sent)))
            sent += len(batch)
        return calls.sum_up(outcomes)

    def delete(self, ids: Sequence[str]) -> int:
        """Remove documents, and return how many there were; unknown ids are no error."""
        return self._do(calls.delete(self._at, ids)) if ids else 0

    def documents(self, filter: str | None = None, *, limit: int = 500) -> Iterator[Document]:  # noqa: A002
        """All documents in the order of storing, `limit` a request; writes meanwhile neither hide nor repeat others."""
        cursor: str | None = None
        while True:
            found = self.page(limit=limit, cursor=cursor, filter=filter)
            yield from found
            cursor = found.next
            if cursor is None:
                return

    def wait_for_job(self, job_id: str, *, pause: float = 0.5) -> JobStatus:
        """A job when it has ended; asked for every `pause` seconds."""
        while not (found := self.job(job_id)).ended:
            time.sleep(pause)
        return found

    def is_ready(self) -> bool:
        """Whether the server can serve requests now; asked once.

        Raises:
            Unreachable: there is no server.
        """
        return self._do(calls.ready(), Retry(attempts=1))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _do(self, call: calls.Call[T], retry: Retry | None = None) -> T:
        return call.result(self._send(call, retry))

    def _send(self, call: calls.Call[Any], retry: Retry | None = None, *, stream: bool = False) -> httpx.Response:
        """The answer, whatever it says; with `stream`, of which only the status has been read."""
        retrying = tenacity.Retrying(**(retry or self._retry).options(call.again))
        try:
            answer: httpx.Response = retrying(self._request, call, stream=stream)
        except httpx.HTTPError as error:
            raise Unreachable(calls.unreachable(self._at.url, error)) from error
        return answer

    def _request(self, call: calls.Call[Any], *, stream: bool) -> httpx.Response:
        request = self._http.build_request(call.method, call.path, **call.arguments())
        answer = self._http.send(request, stream=stream)
        if answer.status_code not in call.accepts:
            answer.read()  # which also gives its connection back
        return answer
