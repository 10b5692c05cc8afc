"""The calls of the service: what is sent and what is made of the answer. Each client only carries them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import httpx

from mmseek._network import PASSING
from mmseek._types import Content, Document
from mmseek.api.client import asking
from mmseek.api.client.answers import (
    Added,
    CollectionStatus,
    SearchAnswer,
    read_added,
    read_document,
    read_search,
    read_status,
)
from mmseek.api.client.asking import AskAnswer, AskOptions, ask_body, read_answer
from mmseek.api.client.failures import BadAnswer, failure
from mmseek.api.client.requests import (
    Picture,
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
class Call(Generic[T]):
    """One request, and how its answer is read."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    json: Any = None
    data: Mapping[str, str] | None = None
    files: Mapping[str, tuple[str, bytes]] | None = None
    accepts: frozenset[int] = frozenset({200})
    again: frozenset[int] = PASSING
    timeout: httpx.Timeout | None = None

    def arguments(self) -> dict[str, Any]:
        """For the `request` of httpx."""
        given = {"json": self.json, "data": self.data, "files": self.files, "timeout": self.timeout}
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


def search(url: str, query: str | Content | None, image: Picture | None, options: SearchOptions) -> Call[SearchAnswer]:
    """A search."""
    body = search_body(query, image, options)
    return Call("POST", "v1/search", lambda answer: read_search(answer.json(), address(url)), json=body)


def search_upload(url: str, image: Picture, text: str | None, options: SearchOptions) -> Call[SearchAnswer]:
    """A search with a picture as a form."""
    data, files = upload_form(text, image, options)
    return Call(
        "POST", "v1/search/upload", lambda answer: read_search(answer.json(), address(url)), data=data, files=files
    )


def ask(
    url: str,
    question: str | Content | None,
    image: Picture | None,
    options: AskOptions,
    *,
    timeout: float | None,
    stream: bool,
) -> Call[AskAnswer]:
    """A question. What is streamed is read by `EventReader`."""
    return Call(
        "POST",
        asking.PATH,
        lambda answer: read_answer(answer.json(), address(url)),
        json=ask_body(question, image, options, stream=stream),
        again=asking.AGAIN,
        timeout=_waiting(timeout, asking.TIMEOUT),
    )


def add(batch: list[dict[str, Any]], first: int) -> Call[Added]:
    """One batch of documents, before which `first` were sent."""
    return Call("POST", "v1/documents", lambda answer: read_added(answer.json(), first), json={"documents": batch})


def get(url: str, document_id: str) -> Call[Document]:
    """A document."""
    return Call("GET", document_path(document_id), lambda answer: read_document(answer.json(), address(url)))


def delete(ids: Sequence[str]) -> Call[int]:
    """Several documents."""
    return Call("DELETE", "v1/documents", lambda answer: int(answer.json()["deleted"]), json={"ids": list(ids)})


def picture(document_id: str, number: int, side: int | None) -> Call[bytes]:
    """A picture of a document."""
    return Call("GET", picture_path(document_id, number, side), lambda answer: answer.content)


def info() -> Call[CollectionStatus]:
    """What the collection holds."""
    return Call("GET", "v1/collection", lambda answer: read_status(answer.json()))


def ready() -> Call[bool]:
    """Whether requests can be served."""
    return Call("GET", "health/ready", lambda answer: answer.status_code == 200, accepts=frozenset({200, 503}))


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
