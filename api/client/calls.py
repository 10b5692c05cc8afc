"""The calls of the service: what is sent and what is made of the answer. Each client only carries them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar, Unpack

import httpx

from mmseek._network import PASSING
from mmseek._types import Content, Document
from mmseek.api.client import asking
from mmseek.api.client.answers import (
    Added,
    CollectionStatus,
    Counted,
    DocumentsPage,
    SearchAnswer,
    read_added,
    read_document,
    read_page,
    read_search,
    read_status,
)
from mmseek.api.client.asking import AskAnswer, AskOptions, ask_body, read_answer
from mmseek.api.client.failures import BadAnswer, failure
from mmseek.api.client.requests import (
    Picture,
    RecommendOptions,
    SearchOptions,
    document_path,
    picture_path,
    search_body,
    upload_form,
)
from mmseek.errors import InputError

T = TypeVar("T")

_TIMEOUT: Final = 60.0


@dataclass(frozen=True, slots=True)
class Target:
    """What a client speaks with.

    Args:
        url: of the server.
        base: what addresses of the collection begin with.
        timeout: seconds that a step of a request may take, if that was said.
    """

    url: str
    base: str = "v1"
    timeout: float | None = None

    @property
    def address(self) -> str:
        """The base of all addresses."""
        return address(self.url)


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, and how its answer is read.

    Args:
        method, path: below the server's address.
        read: makes something of the answer.
        json, content, data, files, params, headers: as httpx takes them.
        accepts: the statuses that are answers.
        again: the statuses after which it is sent once more.
        timeout: if it is not that of the client.
    """

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    json: Any = None
    content: bytes | None = None
    data: Mapping[str, str] | None = None
    files: Any = None
    params: Mapping[str, str | int] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    accepts: frozenset[int] = frozenset({200})
    again: frozenset[int] = PASSING
    timeout: httpx.Timeout | None = None

    def arguments(self) -> dict[str, Any]:
        """For the `request` of httpx."""
        names = ("json", "content", "data", "files", "params", "headers", "timeout")
        given = {name: getattr(self, name) for name in names}
        return {name: value for name, value in given.items() if value is not None}

    def result(self, answer: httpx.Response) -> T:
        """What the answer says.

        Raises:
            MmseekError: it says that the request failed.
            BadAnswer: it cannot be read.
        """
        if answer.status_code not in self.accepts:
            raise failure(answer)
        try:
            return self.read(answer)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadAnswer(
                f"{answer.request.url} answered with something that is not mmseek's: check the address"
            ) from error


def once() -> dict[str, str]:
    """The header by which a request is done once, however often it is sent."""
    return {"Idempotency-Key": uuid.uuid4().hex}


def address(url: str) -> str:
    """The base of all addresses.

    Raises:
        InputError: it is no http(s) URL.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise InputError(f"{url!r} is no address of a server: give one like http://127.0.0.1:8000")
    return url.rstrip("/") + "/"


def client_options(url: str, key: str | None, timeout: float | None) -> dict[str, Any]:
    """For the client of httpx. Nothing of the environment is used, so no proxy sees what is sent."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    return {"base_url": address(url), "headers": headers, "timeout": _waiting(timeout, _TIMEOUT), "trust_env": False}


def _waiting(timeout: float | None, usual: float) -> httpx.Timeout:
    return httpx.Timeout(usual if timeout is None else timeout, connect=10.0)


def search(
    at: Target,
    query: str | Content | None = None,
    *,
    image: Picture | None = None,
    **options: Unpack[SearchOptions],
) -> Call[SearchAnswer]:
    """The documents nearest to a text, a picture, or both.

    Args:
        query: text, or content whose pictures are files or bytes.
        image: a picture beside the text: a path, bytes, an `Image` or a PIL picture.
        options: as of `Retriever.search`, and those of reranking; by default as the server has them.
    """
    return Call("POST", f"{at.base}/search", _search_reader(at), json=search_body(query, image, options))


def search_upload(
    at: Target, image: Picture, text: str | None = None, **options: Unpack[SearchOptions]
) -> Call[SearchAnswer]:
    """The same with a picture sent as a file, which is a quarter smaller."""
    data, files = upload_form(text, image, options)
    return Call("POST", f"{at.base}/search/upload", _search_reader(at), data=data, files=files)


def recommend(
    at: Target, like: Sequence[str], unlike: Sequence[str] = (), **options: Unpack[RecommendOptions]
) -> Call[SearchAnswer]:
    """More documents like these, and less like those; they themselves are not among the hits.

    Args:
        like: ids of documents to be near to, at least one.
        unlike: ids of documents to be far from.
        options: k, filter, exclude, candidates, group_by.
    """
    body = {"like": list(like), "unlike": list(unlike), **options}
    return Call("POST", f"{at.base}/recommend", _search_reader(at), json=body)


def add(at: Target, batch: list[dict[str, Any]], first: int) -> Call[Added]:
    """One batch of documents, before which `first` were sent."""
    body = {"documents": batch}
    return Call(
        "POST", f"{at.base}/documents", lambda answer: read_added(answer.json(), first), json=body, headers=once()
    )


def ask(
    at: Target, question: str | Content | None = None, *, image: Picture | None = None, **options: Unpack[AskOptions]
) -> Call[AskAnswer]:
    """An answer from the collection, with its sources, by the chat endpoint that the server is set up with.

    Args:
        question: text, or content whose pictures are files or bytes.
        image: a picture beside the text.
        options: as of `POST /v1/ask`; by default as the server has them.
    """
    return _asked(at, ask_body(question, image, options, stream=False))


def ask_stream(
    at: Target, question: str | Content | None = None, *, image: Picture | None = None, **options: Unpack[AskOptions]
) -> Call[AskAnswer]:
    """The same as it comes, which is read by `EventReader`."""
    return _asked(at, ask_body(question, image, options, stream=True))


def get(at: Target, document_id: str) -> Call[Document]:
    """A document; its pictures are URLs of the service.

    Raises:
        NotFound: there is none.
    """
    path = document_path(at.base, document_id)
    return Call("GET", path, lambda answer: read_document(answer.json(), at.address))


def get_many(at: Target, ids: Iterable[str]) -> Call[tuple[Document, ...]]:
    """Several documents by id, in this order; unknown ones are left out."""

    def read(answer: httpx.Response) -> tuple[Document, ...]:
        return tuple(read_document(item, at.address) for item in answer.json()["documents"])

    return Call("POST", f"{at.base}/documents/get", read, json={"ids": list(ids)})


def page(
    at: Target,
    *,
    limit: int = 100,
    cursor: str | None = None,
    filter: str | None = None,  # noqa: A002
) -> Call[DocumentsPage]:
    """Some documents in the order of storing.

    Args:
        limit: how many, 1 to 1000.
        cursor: `next` of the page before.
        filter: a condition on metadata.
    """
    given = {"limit": limit, "cursor": cursor, "filter": filter}
    params = {name: value for name, value in given.items() if value is not None}
    return Call("GET", f"{at.base}/documents", lambda answer: read_page(answer.json(), at.address), params=params)


def delete(at: Target, ids: Sequence[str]) -> Call[int]:
    """Several documents."""
    body = {"ids": list(ids)}
    return Call(
        "DELETE", f"{at.base}/documents", lambda answer: int(answer.json()["deleted"]), json=body, headers=once()
    )


def delete_where(at: Target, filter: str, *, dry_run: bool = False) -> Call[Counted]:  # noqa: A002
    """Remove all documents that a filter holds for, or only count them.

    Args:
        filter: a condition on metadata.
        dry_run: change nothing.
    """

    def read(answer: httpx.Response) -> Counted:
        told = answer.json()
        return Counted(told["deleted"], told.get("would_delete"))

    body = {"filter": filter, "dry_run": dry_run}
    return Call("DELETE", f"{at.base}/documents", read, json=body, headers=once())


def picture(at: Target, document_id: str, number: int = 0, *, side: int | None = None) -> Call[bytes]:
    """The file of a document's picture, counted from 0; with `side`, a small copy of about that many pixels.

    Raises:
        NotFound: there is none.
    """
    return Call("GET", picture_path(at.base, document_id, number, side), lambda answer: answer.content)


def info(at: Target) -> Call[CollectionStatus]:
    """What the collection holds."""
    path = f"{at.base}/collection" if at.base == "v1" else at.base
    return Call("GET", path, lambda answer: read_status(answer.json()))


def ready() -> Call[bool]:
    """Whether requests can be served."""
    return Call("GET", "health/ready", lambda answer: answer.status_code == 200, accepts=frozenset({200, 503}))


def _asked(at: Target, body: dict[str, Any]) -> Call[AskAnswer]:
    return Call(
        "POST",
        f"{at.base}/ask",
        lambda answer: read_answer(answer.json(), at.address),
        json=body,
        again=asking.AGAIN,
        timeout=_waiting(at.timeout, asking.TIMEOUT),
    )


def sum_up(outcomes: Sequence[Added]) -> Added:
    """The outcome of all batches."""
    return Added(
        sum(each.indexed for each in outcomes),
        sum(each.unchanged for each in outcomes),
        tuple(failed for each in outcomes for failed in each.failed),
    )


def unreachable(url: str, error: httpx.HTTPError) -> str:
    """The sentence for an answer that never came."""
    return f"{url} does not answer ({type(error).__name__}): check the address, and that `mmseek serve` runs"


def _search_reader(at: Target) -> Callable[[httpx.Response], SearchAnswer]:
    return lambda answer: read_search(answer.json(), at.address)
