"""What the routes share."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Final

from fastapi import Depends, Request

from mmseek._types import Encoded, EncodeRequest
from mmseek.api.server.batching import (
    Batcher,
    BatcherOptions,
    PairQueue,
    batched_encoder,
    batched_reranker,
    batcher_of_encoder,
    batcher_of_reranker,
)
from mmseek.api.server.errors import NotOffered
from mmseek.api.server.lanes import Lane
from mmseek.api.server.metrics import Metrics
from mmseek.protocols import Encoder

if TYPE_CHECKING:
    from mmseek.api.server.limits import ServerLimits
    from mmseek.pipeline import Retriever
    from mmseek.protocols import MultiVectorEncoder, Reranker

_READERS: Final = 4
# Searches wait for the encoder's queue in threads; more threads than this would add nothing.
_SEARCHERS: Final = 64


@dataclass(slots=True)
class Service:
    """What runs behind the routes.

    Args:
        limits: what a request may ask for.
        metrics: what Prometheus is told.
        encoder: the model of embeddings, and of the collection if there is one.
        reranker: the model of reranking.
        encoder_queue, reranker_queue: where everything that needs these models waits.
        other_queues: those of further rerankers of the collection.
        names: further names of the encoder.
        collection: open for writing, its models those of the queues; None serves models alone.
        encoding: the lane of searches, which wait in threads.
        writing: the lane of what changes the collection, one at a time.
        reading: the lane of look-ups, which do not wait for a model.
        stopping: set once the server shuts down.
    """

    limits: ServerLimits
    metrics: Metrics
    encoder: Encoder | None
    reranker: Reranker | None
    encoder_queue: Batcher[EncodeRequest, Encoded] | None
    reranker_queue: PairQueue | None
    other_queues: Sequence[PairQueue]
    names: Sequence[str]
    opened: Retriever | None
    encoding: Lane
    writing: Lane
    reading: Lane
    stopping: bool = False

    @property
    def retriever(self) -> Retriever:
        """The collection and its models.

        Raises:
            NotOffered: the server has none.
        """
        if self.opened is None:
            raise NotOffered("this server has no collection: start it with --collection PLACE")
        return self.opened

    @property
    def queues(self) -> Sequence[Batcher[EncodeRequest, Encoded] | PairQueue]:
        """Those that there are."""
        return [each for each in (self.encoder_queue, self.reranker_queue, *self.other_queues) if each is not None]

    def close(self) -> None:
        """End the queues and the threads; a second call does nothing."""
        self.stopping = True
        for queue in self.queues:
            queue.close()
        for lane in (self.encoding, self.writing, self.reading):
            lane.close()


def make_service(
    retriever: Retriever | None,
    encoder: Encoder | None,
    reranker: Reranker | None,
    limits: ServerLimits,
    *,
    batching: BatcherOptions | None = None,
    names: Sequence[str] = (),
) -> Service:
    """Put queues before the models, also those of the retriever, which is copied for that."""
    metrics = Metrics()
    asking: Encoder | MultiVectorEncoder | None = encoder
    if retriever is not None:
        asking = encoder or retriever.encoder
        reranker = reranker or retriever.reranker
    batching = batching or BatcherOptions(
        batch_cost=limits.batch_cost, max_waiting=limits.max_waiting, stuck_seconds=limits.stuck_seconds
    )
    encoders = batcher_of_encoder(asking, batching, metrics, limits.cache_bytes) if asking is not None else None
    stages = retriever.stages if retriever is not None else ()
    rankers = {id(each): each for each in (*(stage.reranker for stage in stages), reranker) if each is not None}
    pairs = {key: batcher_of_reranker(each, batching, metrics) for key, each in rankers.items()}
    asked = pairs.get(id(reranker))
    return Service(
        limits=limits,
        metrics=metrics,
        encoder=asking if isinstance(asking, Encoder) else None,  # one of many vectors only searches
        reranker=reranker,
        encoder_queue=encoders,
        reranker_queue=asked,
        other_queues=[queue for queue in pairs.values() if queue is not asked],
        names=tuple(names),
        opened=None if retriever is None else _queued(retriever, encoders, pairs),
        encoding=Lane("mmseek-searching", threads=min(limits.max_waiting, _SEARCHERS), max_waiting=limits.max_waiting),
        writing=Lane("mmseek-writing", threads=1, max_waiting=limits.max_waiting),
        reading=Lane("mmseek-reading", threads=_READERS, max_waiting=limits.max_waiting * _READERS),
    )


def _queued(
    retriever: Retriever, encoders: Batcher[EncodeRequest, Encoded] | None, pairs: Mapping[int, PairQueue]
) -> Retriever:
    shared = copy.copy(retriever)
    if encoders is not None:
        shared.encoder = batched_encoder(retriever.encoder, encoders)
    shared.stages = tuple(
        replace(stage, reranker=batched_reranker(stage.reranker, pairs[id(stage.reranker)]))
        for stage in retriever.stages
    )
    return shared


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(_service)]
