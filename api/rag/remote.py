"""A collection that `mmseek serve` serves, over HTTP: with time limits, and asked again where it could not answer."""

from __future__ import annotations

import asyncio
import re
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode, urlsplit

import httpx
import tenacity

from mmseek import errors
from mmseek._network import PASSING, retry_after
from mmseek._types import Content, Document, Hit, Image, Query
from mmseek.api.rag.reranking import rerank_loaded
from mmseek.errors import ConfigError, InputError, ItemError, MmseekError, UrlRefused
from mmseek.items import item_to_json, parse_item
from mmseek.media import MediaLimits, read_bytes
from mmseek.pipeline.reranking import Reranking, as_stages
from mmseek.protocols import Reranker

__all__ = ["RemoteSource", "ServiceError", "ServiceUnavailable"]

_PAGE: Final = 1000  # the most documents that a service gives at once, by default
_DELETED: Final = 10_000  # in one request
_BATCH: Final = 64
_BATCH_BYTES: Final = 32 * 1024**2
_LONGEST_WAIT: Final = 30.0
# What a service says of the caller's data comes back as the error that it would be here.
_KINDS: Final[Mapping[str, type[MmseekError]]] = {
    kind.code: kind
    for kind in (
        errors.InputError,
        errors.ItemError,
        errors.MediaError,
        errors.MediaTooLarge,
        errors.MediaNotFound,
        errors.UrlRefused,
        errors.EncodeError,
        errors.StorageError,
    )
}


class ServiceError(MmseekError):
    """The service failed, or is no mmseek service."""

    code = "service_error"


class ServiceUnavailable(ServiceError):
    """The service cannot be reached, or is too busy. `retry_after` is what it asks to wait, in seconds."""

    code = "service_unavailable"

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class _Call(NamedTuple):
    method: str
    path: str
    body: dict[str, Any] | None = None


class RemoteSource:
    """A service as a `SearchSource`.

    Every request may be made again safely: nothing here counts, adds up or appends.

    Args:
        url: of the service, for example `http://127.0.0.1:8000`; with `/v1/collections/NAME` after it, of one of its
            collections.
        api_key: sent as a bearer token, to this service only.
        timeout: seconds that one request may take.
        retries: how often a request is made again after a failed connection or an answer of "busy"; 0 for never.
        backoff: seconds before the second attempt; doubles with each, up to 30 s.
        reranker: orders the hits anew, in this process, in place of the service's own; reads their pictures from the
            service. Several do so one after the other.
        rerank_depth: how many each orders; see `mmseek.Retriever`.
        reranking: threshold, fusion and time of these; without a reranker here, the threshold is the service's to keep.
        transport: for tests: what `httpx.Client` is given.

    Raises:
        InputError: this is no URL of a service, or the depth is below 1.
        ConfigError: the time limit or the number of retries makes no sense.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        retries: int = 3,
        backoff: float = 0.25,
        reranker: Reranker | Sequence[Reranker] | None = None,
        rerank_depth: int | Sequence[int] | None = None,
        reranking: Reranking | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme.lower() not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise InputError(f"{url!r} is no address of a service: give one like http://127.0.0.1:8000")
        if timeout <= 0 or retries < 0 or backoff < 0:
            raise ConfigError("the time limit of a service must be above 0 seconds, its retries and backoff at least 0")
        self._url, self._base = _placed_at(url.rstrip("/"))
        rerankers = [] if reranker is None else list(reranker) if isinstance(reranker, Sequence) else [reranker]
        self._stages = as_stages(rerankers, rerank_depth)
        self._how = reranking or Reranking()
        self._limits = MediaLimits()
        self._options: dict[str, Any] = {
            "timeout": timeout,
            "headers": {} if api_key is None else {"Authorization": f"Bearer {api_key}"},
            "verify": httpx.create_ssl_context() if parts.scheme.lower() == "https" else False,
        }
        self._client = httpx.Client(**self._options, transport=transport)
        weakref.finalize(self, self._client.close)  # frameworks close nothing
        wait = tenacity.wait_exponential(multiplier=backoff, max=_LONGEST_WAIT)
        self._policy: dict[str, Any] = {
            "stop": tenacity.stop_after_attempt(retries + 1),
            "retry": tenacity.retry_if_exception_type(ServiceUnavailable),
            "wait": lambda state: min(_LONGEST_WAIT, max(wait(state), _asked_wait(state))),
            "reraise": True,
        }

    def search(self, query: Query, *, rerank: bool = True) -> tuple[Hit, ...]:
        hits = self._hits(self._send(self._search_call(query, rerank)))
        return self._ordered(query, hits) if self._stages and rerank else hits

    async def asearch(self, query: Query, *, rerank: bool = True) -> tuple[Hit, ...]:
        call = await asyncio.to_thread(self._search_call, query, rerank)
        # A client for each call: connections kept from another event loop could not be used.
        async with httpx.AsyncClient(**self._options) as client:

            async def once() -> httpx.Response:
                try:
                    answer = await client.request(call.method, self._url + call.path, json=call.body)
                except httpx.HTTPError as error:
                    raise self._unreachable(error) from error
                return self._judged(answer)

            hits = self._hits(await tenacity.AsyncRetrying(**self._policy)(once))
        return await asyncio.to_thread(self._ordered, query, hits) if self._stages and rerank else hits

    def get(self, ids: Sequence[str]) -> dict[str, Document]:
        """See `SearchSource`. One request for a thousand."""
        found: dict[str, Document] = {}
        for start in range(0, len(ids), _PAGE):
            page = list(dict.fromkeys(ids[start : start + _PAGE]))
            answer = self._send(_Call("POST", f"{self._base}/documents/get", {"ids": page}))
            found |= {document.id: document for document in self._documents(_json(answer, self._url))}
        return found

    def documents(self, filter: str | None = None) -> Iterator[Document]:  # noqa: A002
        """See `SearchSource`: pages of the service's list, by its cursor."""
        asked = {"limit": str(_PAGE)} | ({} if filter is None else {"filter": filter})
        while True:
            page = _json(self._send(_Call("GET", f"{self._base}/documents?{urlencode(asked)}")), self._url)
            yield from self._documents(page)
            if page.get("next") is None:
                return
            asked["cursor"] = str(page["next"])

    def count(self) -> int:
        path = "/v1/collection" if self._base == "/v1" else self._base
        answer = _json(self._send(_Call("GET", path)), self._url)
        return int(answer["documents"])

    def add(self, documents: Sequence[Document]) -> tuple[ItemError, ...]:
        failed: list[ItemError] = []
        batch: list[dict[str, Any]] = []
        size = 0
        for document in documents:
            try:
                item = item_to_json(self._inlined(document))
            except MmseekError as error:
                reason = error.reason if isinstance(error, ItemError) else str(error)
                failed.append(ItemError(reason, item_id=document.id))
                continue
            weight = sum(len(part) for part in _strings(item))
            if batch and (len(batch) == _BATCH or size + weight > _BATCH_BYTES):
                failed += self._add(batch)
                batch, size = [], 0
            batch.append(item)
            size += weight
        return (*failed, *(self._add(batch) if batch else ()))

    def delete(self, ids: Sequence[str]) -> int:
        return sum(self._delete({"ids": list(batch)}) for batch in _batches(ids))

    def clear(self, *, compact: bool = False) -> int:
        """See `SearchSource`."""
        ids = [document.id for document in self.documents()]
        removed = self.delete(ids)
        if compact:
            removed += self._delete({"ids": ids[:1] or ["-"], "compact": True})  # unknown ids are no error
        return removed

    def picture(self, image: Image) -> bytes:
        if image.url is None:
            return read_bytes(image, self._limits)
        if not image.url.startswith(f"{self._url}{self._base}/documents/"):
            raise UrlRefused(f"{image.url[:200]} is not fetched: it is no picture of {self._url}")
        data = self._send(_Call("GET", image.url.removeprefix(self._url))).content
        return read_bytes(Image(data=data), self._limits)

    def close(self) -> None:
        self._client.close()

    def _delete(self, body: dict[str, Any]) -> int:
        return int(_json(self._send(_Call("DELETE", f"{self._base}/documents", body)), self._url)["deleted"])

    def _search_call(self, query: Query, rerank: bool) -> _Call:
        here = bool(self._stages) and rerank
        body: dict[str, Any] = {} if query.content.is_empty else self._content_json(query.content)
        body |= {
            "k": max(query.k, self._stages[0].depth) if here else query.k,
            "instruction": query.instruction,
            "exclude": sorted(query.exclude),
            "candidates": None if query.candidates is None else sorted(query.candidates),
            "filter": query.filter,
            "mode": query.mode,
            "also": [{**self._content_json(each.content), "weight": each.weight} for each in query.also],
            "like": list(query.like),
            "unlike": list(query.unlike),
            "group_by": query.group_by,
            "rerank": None if rerank and not here else False,
            "threshold": None if here else self._how.threshold,
        }
        return _Call("POST", f"{self._base}/search", body)

    def _content_json(self, content: Content) -> dict[str, Any]:
        item = item_to_json(self._inlined(Document("query", content)))
        del item["id"]
        return item

    def _ordered(self, query: Query, hits: tuple[Hit, ...]) -> tuple[Hit, ...]:
        return rerank_loaded(self._stages, query, hits, self._how, self.picture)

    def _add(self, items: list[dict[str, Any]]) -> list[ItemError]:
        answer = _json(self._send(_Call("POST", f"{self._base}/documents", {"documents": items})), self._url)
        return [ItemError(str(each["message"]), item_id=each["id"]) for each in answer["failed"]]

    def _inlined(self, document: Document) -> Document:
        content = Content(tuple(self._with_bytes(part) for part in document.content.parts))
        return replace(document, content=content)

    def _with_bytes(self, part: Any) -> Any:
        return Image(data=self.picture(part)) if isinstance(part, Image) else part

    def _send(self, call: _Call) -> httpx.Response:
        def once() -> httpx.Response:
            try:
                answer = self._client.request(call.method, self._url + call.path, json=call.body)
            except httpx.HTTPError as error:
                raise self._unreachable(error) from error
            return self._judged(answer)

        return tenacity.Retrying(**self._policy)(once)

    def _unreachable(self, error: httpx.HTTPError) -> ServiceError:
        if isinstance(error, httpx.TimeoutException):
            return ServiceUnavailable(
                f"{self._url} did not answer within {self._options['timeout']:g} s: give it more time or less to do"
            )
        return ServiceUnavailable(
            f"{self._url} cannot be reached ({type(error).__name__}): check the address, and that mmseek serve runs"
        )

    def _judged(self, answer: httpx.Response) -> httpx.Response:
        status = answer.status_code
        if status < 300:
            return answer
        code, message = _complaint(answer)
        if status in PASSING:
            raise ServiceUnavailable(f"{self._url}: {message}", retry_after(answer.headers.get("retry-after")) or 0.0)
        if code in _KINDS:
            raise _KINDS[code](message)
        if 400 <= status < 500 and code:
            raise InputError(f"{self._url}: {message}")
        raise ServiceError(f"{self._url} answered with status {status}: {message}")

    def _hits(self, answer: httpx.Response) -> tuple[Hit, ...]:
        found = _json(answer, self._url)
        try:
            return tuple(
                Hit(hit["rank"], hit["id"], hit["score"], hit["scores"], self._document(hit["document"]))
                for hit in found["hits"]
            )
        except (KeyError, TypeError) as error:
            raise _strange(self._url) from error

    def _documents(self, answer: dict[str, Any]) -> list[Document]:
        try:
            return [self._document(item) for item in answer["documents"]]
        except (KeyError, TypeError) as error:
            raise _strange(self._url) from error

    def _document(self, item: dict[str, Any]) -> Document:
        """The item of an answer, whose pictures are addresses below that of the service."""
        parts = item.get("content", ())
        whole = {
            **item,
            **({"image": self._url + item["image"]} if "image" in item else {}),
            **({"content": [self._placed(part) for part in parts]} if parts else {}),
        }
        return parse_item(whole, base=None, allow_urls=True).to_document()

    def _placed(self, part: dict[str, str]) -> dict[str, str]:
        return {**part, "image": self._url + part["image"]} if "image" in part else part


def _placed_at(url: str) -> tuple[str, str]:
    """The address of the service, and what addresses of the collection begin with below it."""
    found = re.fullmatch(r"(.*?)(/v1/collections/[^/]+)", url)
    return (found[1], found[2]) if found is not None else (url, "/v1")


def _batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[start : start + _DELETED] for start in range(0, len(ids), _DELETED))


def _strange(url: str) -> ServiceError:
    return ServiceError(f"{url} does not answer as mmseek does: check the address")


def _json(answer: httpx.Response, url: str) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError as error:
        raise _strange(url) from error
    if not isinstance(found, dict):
        raise _strange(url)
    return found


def _complaint(answer: httpx.Response) -> tuple[str, str]:
    """Code and message of an error of the service, or nothing and the reason phrase."""
    try:
        detail = answer.json()["error"]
        return str(detail["code"]), str(detail["message"])
    except (ValueError, KeyError, TypeError):
        return "", answer.reason_phrase or "no reason given"


def _asked_wait(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    return error.retry_after if isinstance(error, ServiceUnavailable) else 0.0


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)
