"""What the routes share."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple

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
from mmseek.api.server.data import OWN_FOLDER, ServerData
from mmseek.api.server.errors import NotOffered
from mmseek.api.server.hosting import CollectionRoot, Hosted
from mmseek.api.server.jobs import Jobs
from mmseek.api.server.lanes import Lane
from mmseek.api.server.metrics import Metrics
from mmseek.pipeline import Retriever

if TYPE_CHECKING:
    from mmseek.api.server.limits import ServerLimits
    from mmseek.pipeline.encoders import AnyEncoder
    from mmseek.pipeline.reranking import Stage
    from mmseek.protocols import Collection, Reranker

_READERS: Final = 4
# Searches wait for the encoder's queue in threads; more threads than this would add nothing.
_SEARCHERS: Final = 64
_MANAGED: Final = 16


class Served(NamedTuple):
    """An encoder and the queue before it, in which all that needs it waits."""

    encoder: AnyEncoder
    queue: Batcher[EncodeRequest, Encoded]

    @property
    def spec(self) -> str:
        """What it is called if it has no other name."""
        return self.encoder.identity.spec


@dataclass(slots=True)
class Service:
    """What runs behind the routes.

    Args:
        limits: what a request may ask for.
        metrics: what Prometheus is told.
        encoders: all that run here, each of its own vectors; the first is that of the collection, if there is one.
        reranker: the model of reranking.
        reranker_queue: where everything that needs it waits.
        other_queues: those of further rerankers.
        names: further names of the first encoder.
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
    encoders: Sequence[Served]
    reranker: Reranker | None
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
    def encoder_queue(self) -> Batcher[EncodeRequest, Encoded] | None:
        """That of the first encoder, if there is one."""
        return self.encoders[0].queue if self.encoders else None

    @property
    def queues(self) -> Sequence[Batcher[Any, Any]]:
        """Those that there are."""
        rankers = [each for each in (self.reranker_queue, *self.other_queues) if each is not None]
        return [*(served.queue for served in self.encoders), *rankers]

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
    encoder: AnyEncoder | None,
    reranker: Reranker | None,
    limits: ServerLimits,
    *,
    encoders: Sequence[AnyEncoder] = (),
    batching: BatcherOptions | None = None,
    names: Sequence[str] = (),
    root: CollectionRoot | None = None,
    data: Path | None = None,
    import_root: Path | None = None,
) -> Service:
    """Put queues before the models, also those of the retriever, which is copied for that.

    See `create_app`.
    """
    metrics = Metrics()
    if retriever is not None:
        reranker = reranker or retriever.reranker
    batching = batching or BatcherOptions(
        batch_cost=limits.batch_cost, max_waiting=limits.max_waiting, stuck_seconds=limits.stuck_seconds
    )
    stages: Sequence[Stage] = () if root is None else root.stages
    stages = retriever.stages if retriever is not None and not stages else stages
    reranker = reranker or (stages[-1].reranker if stages else None)
    own = [each for each in (encoder, None if retriever is None else retriever.encoder) if each is not None]
    hosting = [*own, *(() if root is None else root.encoders)]
    served: dict[str, Served] = {}  # by what their vectors are: of two that give the same ones, one works
    for each in (*hosting, *encoders):
        if each.identity.fingerprint not in served:
            queue = batcher_of_encoder(each, batching, metrics, limits.cache_bytes)
            served[each.identity.fingerprint] = Served(each, queue)
    rankers = {id(each): each for each in (*(stage.reranker for stage in stages), reranker) if each is not None}
    pairs = {key: batcher_of_reranker(each, batching, metrics) for key, each in rankers.items()}
    asked = pairs.get(id(reranker))
    shared = _stages(stages, pairs)
    service = Service(
        limits=limits,
        metrics=metrics,
        encoders=list(served.values()),
        reranker=reranker,
        reranker_queue=asked,
        other_queues=[queue for queue in pairs.values() if queue is not asked],
        names=tuple(names),
        opened=None if retriever is None else _queued(retriever, served, shared),
        encoding=Lane("mmseek-searching", threads=min(limits.max_waiting, _SEARCHERS), max_waiting=limits.max_waiting),
        writing=Lane("mmseek-writing", threads=1, max_waiting=limits.max_waiting),
        reading=Lane("mmseek-reading", threads=_READERS, max_waiting=limits.max_waiting * _READERS),
        managing=Lane("mmseek-managing", threads=1, max_waiting=_MANAGED),
        hosted=None if root is None else _hosted(root, [_queued_encoder(each, served) for each in hosting], shared),
    )
    folder = root.folder.expanduser() / OWN_FOLDER if data is None and root is not None else data
    if folder is not None and (retriever is not None or root is not None):
        service.data = ServerData(folder)
        service.jobs = Jobs(service.data.folder, service.use, limits, root=import_root)
    return service


def _hosted(root: CollectionRoot, encoders: Sequence[AnyEncoder], stages: Sequence[Stage]) -> Hosted:
    def retriever_of(encoder: AnyEncoder, collection: Collection) -> Retriever:
        made = Retriever(encoder, collection)
        made.stages = tuple(stages)
        return made

    return Hosted(root.folder, encoders, retriever_of, root.max_open)


def _queued(retriever: Retriever, served: Mapping[str, Served], stages: Sequence[Stage]) -> Retriever:
    shared = copy.copy(retriever)
    shared.encoder = _queued_encoder(retriever.encoder, served)
    shared.stages = tuple(stages)
    return shared


def _queued_encoder(encoder: AnyEncoder, served: Mapping[str, Served]) -> AnyEncoder:
    return batched_encoder(encoder, served[encoder.identity.fingerprint].queue)


def _stages(stages: Sequence[Stage], pairs: Mapping[int, PairQueue]) -> tuple[Stage, ...]:
    return tuple(
        replace(stage, reranker=batched_reranker(stage.reranker, pairs[id(stage.reranker)])) for stage in stages
    )


async def _service(request: Request) -> Service:
    # A coroutine, because a plain function would be run in a thread, for each request anew.
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(_service)]
