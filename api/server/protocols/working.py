"""What the protocols share: the names of the models, and running inputs through them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from mmseek._types import Content, EncodeRequest, Pair
from mmseek.api.server.batching.facades import content_cost, first_error
from mmseek.api.server.errors import NotOffered, UnknownModel
from mmseek.api.server.protocols.inputs import placed
from mmseek.api.server.protocols.urls import fetched
from mmseek.api.server.service import Service

if TYPE_CHECKING:
    from starlette.requests import Request

    from mmseek._types import FloatArray

T = TypeVar("T")

# Bodies over this are taken apart in a thread: base64 of pictures takes its time.
_LARGE: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors (n, dim) and how many tokens each input had."""

    rows: FloatArray
    tokens: Sequence[int]


def names_of(spec: str) -> list[str]:
    """What clients may call a model: its spec, and the name behind the family, with and without its revision."""
    names = [spec, spec.partition("@")[0]]
    names += [name.partition(":")[2] for name in names]
    return [name for name in dict.fromkeys(names) if name]


def encoder_name(service: Service, asked: str | None) -> str:
    """The name to answer with.

    Raises:
        NotOffered: the server has no encoder.
        UnknownModel: it has another one.
    """
    if service.encoder is None:
        raise NotOffered("this server has no encoder: start it with --encoder SPEC or --collection PLACE")
    return _name(asked, service.encoder.identity.spec, service.names)


def reranker_name(service: Service, asked: str | None) -> str:
    """As `encoder_name`, of the reranker."""
    if service.reranker is None:
        raise NotOffered("this server has no reranker: start it with --rerank SPEC")
    return _name(asked, service.reranker.identity.spec, service.names)


def _name(asked: str | None, spec: str, aliases: Sequence[str]) -> str:
    if not asked:
        return (*aliases, spec)[0]
    if asked not in (*aliases, *names_of(spec)):
        raise UnknownModel(f"there is no model {asked[:200]!r} here: GET /v1/models lists what there is")
    return asked


async def parse(service: Service, request: Request, read: Callable[[], T]) -> T:
    """Take a body apart, on the event loop if it is small."""
    size = request.headers.get("content-length", "")
    small = size.isdigit() and int(size) < _LARGE
    return read() if small else await service.reading.run(read)


async def embed(service: Service, requests: Sequence[EncodeRequest], what: str = "input") -> Embedded:
    """Encode inputs through the queue.

    Raises:
        MmseekError: the first input that cannot be encoded, named by its place.
    """
    assert service.encoder is not None
    assert service.encoder_queue is not None
    contents = await _with_pictures(service, [request.content for request in requests], what)
    requests = [replace(request, content=content) for request, content in zip(requests, contents, strict=True)]
    outcomes = await service.encoder_queue.outcomes(requests)
    wrong = first_error(outcomes)
    if wrong is not None:
        raise placed(wrong[1], f"{what}[{wrong[0]}]") from wrong[1]
    rows = np.stack([outcome.vector for outcome in outcomes if outcome.vector is not None])
    tokens = [
        content_cost(request.content) if outcome.tokens is None else outcome.tokens
        for request, outcome in zip(requests, outcomes, strict=True)
    ]
    return Embedded(rows, tokens)


async def score(service: Service, pairs: Sequence[Pair], what: str = "documents") -> list[float]:
    """Score pairs through the queue; errors as in `embed`."""
    assert service.reranker_queue is not None
    queries = await _with_pictures(service, [pair.query for pair in pairs], "query")
    documents = await _with_pictures(service, [pair.document for pair in pairs], what)
    pairs = [
        replace(pair, query=query, document=document)
        for pair, query, document in zip(pairs, queries, documents, strict=True)
    ]
    (outcomes,) = await service.reranker_queue.outcomes([tuple(pairs)])
    wrong = first_error(outcomes)
    if wrong is not None:
        raise placed(wrong[1], f"{what}[{wrong[0]}]") from wrong[1]
    return [float(outcome.score) for outcome in outcomes if outcome.score is not None]


async def _with_pictures(service: Service, contents: Sequence[Content], what: str) -> list[Content]:
    """The contents, their pictures fetched if any are URLs.

    Raises:
        MmseekError: of the first that cannot be had, named by its place.
    """
    found: list[Content] = []
    for place, content in enumerate(await fetched(contents, service.limits)):
        if not isinstance(content, Content):
            raise placed(content, f"{what}[{place}]") from content
        found.append(content)
    return found


def pair_tokens(query: Content, documents: Sequence[Content]) -> int:
    """About how many tokens a reranker reads."""
    return sum(content_cost(query) + content_cost(document) for document in documents)
