"""What the routes share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

if TYPE_CHECKING:
    from mmseek.api.server.lanes import Lane
    from mmseek.api.server.limits import ServerLimits
    from mmseek.pipeline import Retriever


@dataclass(slots=True)
class Service:
    """One retriever, its limits and its threads.

    Args:
        retriever: open for writing.
        limits: what a request may ask for.
        encoding: the lane of everything that encodes or writes, one at a time.
        reading: the lane of look-ups, which do not wait for the encoder.
        stopping: set once the server shuts down.
    """

    retriever: Retriever
    limits: ServerLimits
    encoding: Lane
    reading: Lane
    stopping: bool = False


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


ServiceDep = Annotated[Service, Depends(_service)]
