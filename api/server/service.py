"""What the routes share."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import Depends, Request

from mmseek._types import Encoded, EncodeRequest
from mmseek.api.server.batching import (
    BatchedEncoder,
    Batcher,
    BatcherOptions,
    PairQueue,
    batched_encoder,
    batched_reranker,
    batcher_of_encoder,
    batcher_of_reranker,
)
from mmseek.api.server.data import OWN_FOLDER, ServerData
from mmseek.api.server.errors import NotOffered
from mmseek.api.server.hosting import CollectionRoot, Hosted
from mmseek.api.server.jobs import Jobs
from mmseek.api.server.lanes import Lane
from mmseek.api.server.metrics import Metrics
from mmseek.pipeline import Retriever
from mmseek.protocols import Encoder

if TYPE_CHECKING:
    from mmseek.api.server.limits import ServerLimits
    from mmseek.pipeline.reranking import Stage
    from mmseek.protocols import Collection, MultiVectorEncoder, Reranker

_READERS: Final = 4
# Searches wait for the encoder's queue in threads; more threads than this would add nothing.
_SEARCHERS: Final = 64
_MANAGED: Final = 16


@dataclass(slots=True)
class Service:
    """What runs behind the routes.

    Args:
        limits: what a request may ask for.
        metrics: what Prometheus is told.
        encoder: the model of embeddings, and of the collection if there is one.
        reranker: the model of reranking.
        encoder_queue, reranker_queue: where everything that needs these models waits.
        other_queues: those of further rerankers and encoders of the collections.
        names: further names of the encoder.
        collection: open for writing, its models those of the queues; None serves models alone.
        encoding: the lane of searches, which wait in threads.
        writing: the lane of what changes the collection, one at a time.
        reading: the lane of look-ups, which do not wait for a model.
        managing: the lane of what makes and deletes collections; it may wait for their requests to end.
        stopping: set once the server shuts down.
        hosted: the folder of collections beside `opened`, if there is one.
        data: where this server keeps what is its own.
        jobs: bulk jobs, if there is a place for them.
        origins: pages of which origins may ask from a browser.
    """

    limits: ServerLimits
    metrics: Metrics
    encoder: Encoder | None
    reranker: Reranker | None
    encoder_queue: Batcher[EncodeRequest, Encoded] | None
    reranker_queue: PairQueue | None
    other_queues: Sequence[Batcher[Any, Any]]
    names: Sequence[str]
    opened: Retriever | None
    encoding: Lane
    writing: Lane
    reading: Lane
    managing: Lane
    stopping: bool = False
    hosted: Hosted | None = None
    data: ServerData | None = None
    jobs: Jobs | None = None
    origins: Sequence[str] = ()

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
    def queues(self) -> Sequence[Batcher[Any, Any]]:
        """Those that there are."""
        return [each for each in (self.encoder_queue, self.reranker_queue, *self.other_queues) if each is not None]

    def close(self) -> None:
        """End the queues and the threads; a second call does nothing."""
        self.stopping = True
        if self.jobs is not None:
            self.jobs.stop()
        for queue in self.queues:
            queue.close()
        for lane in (self.encoding, self.writing, self.reading, self.managing):
            lane.close()
        if self.jobs is not None:
            self.jobs.close()
        if self.hosted is not None:
            self.hosted.close()
        if self.data is not None:
            self.data.close()

    def use(self, name: str | None) -> AbstractContextManager[Retriever]:
        """A collection by its own name, or for None the server's own one, open until the block ends.

        Raises:
            NotOffered: the server has none of this kind.
            UnknownCollection: there is none of this name.
        """
        if name is None:
            return nullcontext(self.retriever)
        if self.hosted is None:
            raise NotOffered("this server has no folder of collections: start it with --collections DIR")
        return self.hosted.use(name)


def make_service(
    retriever: Retriever | None,
    encoder: Encoder | None,
    reranker: Reranker | None,
    limits: ServerLimits,
    *,
    batching: BatcherOptions | None = None,
    names: Sequence[str] = (),
    root: CollectionRoot | None = None,
    data: Path | None = None,
    import_root: Path | None = None,
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
    stages: Sequence[Stage] = () if root is None else root.stages
    stages = retriever.stages if retriever is not None and not stages else stages
    reranker = reranker or (stages[-1].reranker if stages else None)
    own = [] if asking is None else [asking]
    given: list[Encoder | MultiVectorEncoder] = [*own, *(() if root is None else root.encoders)]
    asking = given[0] if given else None
    encoders = {
        each.identity.fingerprint: (each, batcher_of_encoder(each, batching, metrics, limits.cache_bytes))
        for each in reversed(given)
    }
    served = [
        BatchedEncoder(each, encoders[each.identity.fingerprint][1]) for each in given if isinstance(each, Encoder)
    ]
    rankers = {id(each): each for each in (*(stage.reranker for stage in stages), reranker) if each is not None}
    pairs = {key: batcher_of_reranker(each, batching, metrics) for key, each in rankers.items()}
    asked = pairs.get(id(reranker))
    first = None if asking is None else encoders[asking.identity.fingerprint][1]
    shared = _stages(stages, pairs)
    service = Service(
        limits=limits,
        metrics=metrics,
        encoder=asking if isinstance(asking, Encoder) else None,  # one of many vectors only searches
        reranker=reranker,
        encoder_queue=first,
        reranker_queue=asked,
        other_queues=[
            *(queue for queue in pairs.values() if queue is not asked),
            *(queue for _, queue in encoders.values() if queue is not first),
        ],
        names=tuple(names),
        opened=None if retriever is None else _queued(retriever, first, shared),
        encoding=Lane("mmseek-searching", threads=min(limits.max_waiting, _SEARCHERS), max_waiting=limits.max_waiting),
        writing=Lane("mmseek-writing", threads=1, max_waiting=limits.max_waiting),
        reading=Lane("mmseek-reading", threads=_READERS, max_waiting=limits.max_waiting * _READERS),
        managing=Lane("mmseek-managing", threads=1, max_waiting=_MANAGED),
        hosted=None if root is None else _hosted(root, served, shared),
    )
    folder = root.folder.expanduser() / OWN_FOLDER if data is None and root is not None else data
    if folder is not None and (retriever is not None or root is not None):
        service.data = ServerData(folder)
        service.jobs = Jobs(
            service.data.folder, service.use, media=limits.media, most_bytes=limits.max_job_bytes, root=import_root
        )
    return service


def _hosted(root: CollectionRoot, encoders: Sequence[BatchedEncoder], stages: Sequence[Stage]) -> Hosted:
    def retriever_of(encoder: Encoder, collection: Collection) -> Retriever:
        made = Retriever(encoder, collection)
        made.stages = tuple(stages)
        return made

    return Hosted(root.folder, encoders, retriever_of, root.max_open)


def _queued(
    retriever: Retriever, encoders: Batcher[EncodeRequest, Encoded] | None, stages: Sequence[Stage]
) -> Retriever:
    shared = copy.copy(retriever)
    if encoders is not None:
        shared.encoder = batched_encoder(retriever.encoder, encoders)
    shared.stages = tuple(stages)
    return shared


def _stages(stages: Sequence[Stage], pairs: Mapping[int, PairQueue]) -> tuple[Stage, ...]:
    return tuple(
        replace(stage, reranker=batched_reranker(stage.reranker, pairs[id(stage.reranker)])) for stage in stages
    )


async def _service(request: Request) -> Service:
    # A coroutine, because a plain function would be run in a thread, for each request anew.
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(_service)]
