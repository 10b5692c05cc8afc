"""What the protocols share: running inputs through the models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from mmseek._types import Content, EncodeRequest, Pair
from mmseek.api.server.batching.facades import content_cost, first_error
from mmseek.api.server.fetched import fetched, filled, urls_of_contents
from mmseek.api.server.protocols.inputs import placed
from mmseek.api.server.service import Served, Service
from mmseek.errors import MmseekError

if TYPE_CHECKING:
    from starlette.requests import Request

    from mmseek._types import FloatArray

T = TypeVar("T")

# Bodies over this are taken apart in a thread: base64 of pictures takes its time.
_LARGE: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Embedded:
    """One vector an input (dim,), or one for each of its tokens (tokens, dim); and how many tokens each input had."""

    vectors: Sequence[FloatArray]
    tokens: Sequence[int]

    @property
    def rows(self) -> FloatArray:
        """One vector an input, (n, dim)."""
        return np.stack(self.vectors)


async def parse(service: Service, request: Request, read: Callable[[], T]) -> T:
    """Take a body apart, on the event loop if it is small."""
    size = request.headers.get("content-length", "")
    small = size.isdigit() and int(size) < _LARGE
    return read() if small else await service.reading.run(read)


async def embed(service: Service, served: Served, requests: Sequence[EncodeRequest], what: str = "input") -> Embedded:
    """Encode inputs through an encoder's queue.

    Raises:
        MmseekError: the first input that cannot be encoded, named by its place.
    """
    contents = await _with_pictures(service, [request.content for request in requests], what)
    requests = [replace(request, content=content) for request, content in zip(requests, contents, strict=True)]
    outcomes = await served.queue.outcomes(requests)
    wrong = first_error(outcomes)
    if wrong is not None:
        raise placed(wrong[1], f"{what}[{wrong[0]}]") from wrong[1]
    vectors = [outcome.vector for outcome in outcomes if outcome.vector is not None]
    tokens = [
        content_cost(request.content) if outcome.tokens is None else outcome.tokens
        for request, outcome in zip(requests, outcomes, strict=True)
    ]
    return Embedded(vectors, tokens)


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
    found = await fetched(urls_of_contents(contents), service.limits)
    whole: list[Content] = []
    for place, content in enumerate(contents):
        try:
            whole.append(filled(content, found))
        except MmseekError as error:
            raise placed(error, f"{what}[{place}]") from error
    return whole


def pair_tokens(query: Content, documents: Sequence[Content]) -> int:
    """About how many tokens a reranker reads."""
    return sum(content_cost(query) + content_cost(document) for document in documents)
