"""A batcher that looks like the encoder or the reranker behind it, for code that knows nothing of queues."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from mmseek._types import Content, Encoded, EncodeRequest, EncoderIdentity, Pair, RerankerIdentity, Role, Scored, Sent
from mmseek.api.server.batching.batcher import Batcher, BatcherOptions, Model
from mmseek.api.server.batching.cache import VectorCache, request_key
from mmseek.api.server.batching.scope import current_scope
from mmseek.api.server.metrics import Metrics
from mmseek.errors import EncodeError, MmseekError
from mmseek.protocols import Encoder, Explaining, MultiVectorEncoder

if TYPE_CHECKING:
    from mmseek._types import FloatArray
    from mmseek.protocols import Reranker

# About what a picture becomes in most models; of English text, bytes a token.
_PICTURE_COST: Final = 256
_BYTES_A_TOKEN: Final = 4
# Items of a stream that are queued at once; two such pieces wait, so that the model does not.
_PIECE: Final = 64
_PROBE: Final = Content.of("ready?")

PairQueue: TypeAlias = Batcher[tuple[Pair, ...], tuple[Scored, ...]]


def content_cost(content: Content) -> int:
    """About how many tokens a content is to a model."""
    texts = sum(len(text.encode("utf-8", "replace")) // _BYTES_A_TOKEN + 1 for text in content.texts)
    return texts + _PICTURE_COST * len(content.images)


def batcher_of_encoder(
    encoder: Encoder | MultiVectorEncoder, options: BatcherOptions | None, metrics: Metrics, cache_bytes: int
) -> Batcher[EncodeRequest, Encoded]:
    """The batcher of an encoder, with a cache of vectors."""
    model: Model[EncodeRequest, Encoded] = Model(
        "encoder",
        lambda requests: encoder.stream(requests) if isinstance(encoder, Encoder) else encoder.stream_tokens(requests),
        lambda request: content_cost(request.content),
        EncodeRequest(_PROBE),
        request_key if cache_bytes else None,
    )
    return Batcher(model, options, metrics=metrics, cache=VectorCache(cache_bytes) if cache_bytes else None)


def batcher_of_reranker(reranker: Reranker, options: BatcherOptions | None, metrics: Metrics) -> PairQueue:
    """The batcher of a reranker. Its items are whole calls: some rerankers compare the documents of one query."""
    model: Model[tuple[Pair, ...], tuple[Scored, ...]] = Model(
        "reranker",
        lambda calls: (tuple(reranker.stream(call)) for call in calls),
        lambda call: sum(content_cost(pair.query) + content_cost(pair.document) for pair in call),
        (Pair(_PROBE, _PROBE),),
    )
    return Batcher(model, options, metrics=metrics)


class BatchedEncoder:
    """An `Encoder` whose work waits its turn. Blocks the calling thread; never call it on the event loop."""

    def __init__(self, encoder: Encoder, batcher: Batcher[EncodeRequest, Encoded]) -> None:
        self._encoder = encoder
        self._batcher = batcher

    @property
    def identity(self) -> EncoderIdentity:
        return self._encoder.identity

    def encode_query(self, contents: Sequence[Content], instruction: str | None = None) -> FloatArray:
        return self._encode([EncodeRequest(content, "query", instruction) for content in contents])

    def encode_document(self, contents: Sequence[Content]) -> FloatArray:
        role: Role = "document"
        return self._encode([EncodeRequest(content, role) for content in contents])

    def stream(self, requests: Iterable[EncodeRequest]) -> Iterator[Encoded]:
        # This is how documents are indexed: however many, as long as there is progress.
        yield from _in_pieces(self._batcher, requests)

    def _encode(self, requests: list[EncodeRequest]) -> FloatArray:
        outcomes = self._batcher.outcomes_blocking(self._batcher.submit(requests, bounded=False)) if requests else []
        rows = np.zeros((len(requests), self.identity.dim), dtype=np.float32)
        for place, outcome in enumerate(outcomes):
            if outcome.error is not None:
                raise outcome.error
            rows[place] = outcome.vector
        return rows


class BatchedTokenEncoder:
    """A `MultiVectorEncoder` whose work waits its turn; as `BatchedEncoder`."""

    def __init__(self, encoder: MultiVectorEncoder, batcher: Batcher[EncodeRequest, Encoded]) -> None:
        self._encoder = encoder
        self._batcher = batcher

    @property
    def identity(self) -> EncoderIdentity:
        return self._encoder.identity

    def encode_query_tokens(self, contents: Sequence[Content], instruction: str | None = None) -> list[FloatArray]:
        return self._encode([EncodeRequest(content, "query", instruction) for content in contents])

    def encode_document_tokens(self, contents: Sequence[Content]) -> list[FloatArray]:
        role: Role = "document"
        return self._encode([EncodeRequest(content, role) for content in contents])

    def stream_tokens(self, requests: Iterable[EncodeRequest]) -> Iterator[Encoded]:
        yield from _in_pieces(self._batcher, requests)

    def _encode(self, requests: list[EncodeRequest]) -> list[FloatArray]:
        outcomes = self._batcher.outcomes_blocking(self._batcher.submit(requests, bounded=False)) if requests else []
        found = []
        for outcome in outcomes:
            if outcome.vector is None:
                raise outcome.error or EncodeError("the encoder gave no vector")
            found.append(outcome.vector)
        return found


def batched_encoder(
    encoder: Encoder | MultiVectorEncoder, batcher: Batcher[EncodeRequest, Encoded]
) -> BatchedEncoder | BatchedTokenEncoder:
    """The encoder behind its queue."""
    return BatchedEncoder(encoder, batcher) if isinstance(encoder, Encoder) else BatchedTokenEncoder(encoder, batcher)


class BatchedReranker:
    """A `Reranker` whose work waits its turn; as `BatchedEncoder`."""

    def __init__(self, reranker: Reranker, batcher: PairQueue) -> None:
        self._reranker = reranker
        self._batcher = batcher

    @property
    def identity(self) -> RerankerIdentity:
        return self._reranker.identity

    def score(self, query: Content, documents: Sequence[Content], instruction: str | None = None) -> FloatArray:
        scores = np.empty(len(documents), dtype=np.float32)
        pairs = [Pair(query, document, instruction) for document in documents]
        for place, outcome in enumerate(self.stream(pairs)):
            if outcome.error is not None:
                raise outcome.error
            scores[place] = outcome.score
        return scores

    def stream(self, pairs: Iterable[Pair]) -> Iterator[Scored]:
        call = tuple(pairs)
        if call:
            (outcomes,) = self._batcher.outcomes_blocking(self._batcher.submit([call], bounded=False))
            yield from outcomes


class ExplainingReranker(BatchedReranker):
    """The same of a reranker that tells what its model reads."""

    def __init__(self, reranker: Reranker, explaining: Explaining, batcher: PairQueue) -> None:
        super().__init__(reranker, batcher)
        self._explaining = explaining

    def sent(self, pair: Pair) -> Sent:
        return self._explaining.sent(pair)


def batched_reranker(reranker: Reranker, batcher: PairQueue) -> BatchedReranker:
    """The reranker behind its queue, with all that it can do."""
    if isinstance(reranker, Explaining):
        return ExplainingReranker(reranker, reranker, batcher)
    return BatchedReranker(reranker, batcher)


def _in_pieces(batcher: Batcher[EncodeRequest, Encoded], requests: Iterable[EncodeRequest]) -> Iterator[Encoded]:
    """Outcomes in order, with at most two pieces of the input held, each with the request's whole time."""
    source = iter(requests)
    pending: deque[Future[list[Encoded]]] = deque()
    while True:
        piece = list(itertools.islice(source, _PIECE))
        current_scope().renew()
        if piece:
            pending.append(batcher.submit(piece, bounded=False))
        if pending and (len(pending) > 1 or not piece):
            yield from batcher.outcomes_blocking(pending.popleft())
        if not piece and not pending:
            return


def first_error(outcomes: Sequence[Encoded | Scored]) -> tuple[int, MmseekError] | None:
    """Where the first error is, and what it is."""
    return next(((place, each.error) for place, each in enumerate(outcomes) if each.error is not None), None)
