"""The collection that a request is about: the one of its address, or the default one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Concatenate, ParamSpec, TypeVar
from urllib.parse import quote

from fastapi import Depends, Path, Request

from mmseek.api.server.errors import NotOffered
from mmseek.api.server.hosting.names import DEFAULT_NAME
from mmseek.api.server.service import Service, ServiceDep

if TYPE_CHECKING:
    from mmseek.api.server.lanes import Lane
    from mmseek.pipeline import Retriever

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Place:
    """A collection as a request names it; nothing is opened before `use`.

    Args:
        service: that serves it.
        name: as in the address; None for the default collection.
    """

    service: Service
    name: str | None

    @property
    def base(self) -> str:
        """What its addresses begin with."""
        return "/v1" if self.name is None else f"/v1/collections/{quote(self.name, safe='')}"

    @property
    def stored_name(self) -> str | None:
        """Under which name work is kept for later: what an alias stands for now, None for the server's own one.

        Raises:
            UnknownCollection: there is no such collection.
            NotOffered: the server has none at all.
        """
        if self.name is None and self.service.opened is not None:
            return None
        if self.service.hosted is None:
            raise NotOffered("this server has no collection: start it with --collection PLACE or --collections DIR")
        return self.service.hosted.real_name(self.name or DEFAULT_NAME)

    @contextmanager
    def use(self) -> Iterator[Retriever]:
        """The open collection, which stays open until the block ends. Blocks; never use it on the event loop.

        Raises:
            UnknownCollection: there is none of this name.
            NotOffered: the server has none at all.
        """
        with self.service.use(self.stored_name) as retriever:
            yield retriever

    async def run(
        self, lane: Lane, call: Callable[Concatenate[Retriever, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run a call with the open collection on a thread of a lane."""

        def inside() -> R:
            with self.use() as retriever:
                return call(retriever, *args, **kwargs)

        return await lane.run(inside)

    @asynccontextmanager
    async def held(self, lane: Lane) -> AsyncIterator[Retriever]:
        """The same for work on the event loop, which may take long; it is opened on a thread of a lane."""
        holding = self.use()
        opening = asyncio.ensure_future(lane.run(holding.__enter__))
        try:
            retriever = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(lambda done: None if done.cancelled() or done.exception() else _let_go(holding))
            raise
        try:
            yield retriever
        finally:
            _let_go(holding)


def _let_go(holding: AbstractContextManager[Retriever]) -> None:
    holding.__exit__(None, None, None)


def _place(request: Request, service: ServiceDep) -> Place:
    return Place(service, request.path_params.get("collection"))


def named_collection(
    collection: Annotated[str, Path(description="the name of a collection, or an alias of one")],
) -> None:
    """Describes the name in the addresses of collections; `Place` reads it."""


PlaceDep = Annotated[Place, Depends(_place)]
