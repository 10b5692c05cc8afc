from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path
from fastapi.responses import JSONResponse

from mmseek.api.server.errors import NotOffered
from mmseek.api.server.hosting import Hosted
from mmseek.api.server.hosting.place import Place
from mmseek.api.server.routes.collection import info_json
from mmseek.api.server.routes.table import RouteTable
from mmseek.api.server.schemas_collections import (
    CollectionsAnswer,
    DeletedCollectionAnswer,
    NamedCollectionAnswer,
    NewCollectionBody,
)
from mmseek.api.server.service import Service, ServiceDep

table = RouteTable("/collections", tags=["collections"])

_Name = Annotated[str, Path(description="the name of a collection, or an alias of one")]


def hosted_by(service: Service) -> Hosted:
    """The folder of collections.

    Raises:
        NotOffered: the server has none.
    """
    if service.hosted is None:
        raise NotOffered("this server has no folder of collections: start it with --collections DIR")
    return service.hosted


@table.get("", response_model=CollectionsAnswer)
async def every(service: ServiceDep) -> JSONResponse:
    """The names of the collections, the aliases, and the encoders that a new collection may be of."""
    return JSONResponse(await service.reading.run(_every, hosted_by(service)))


@table.post("", response_model=NamedCollectionAnswer, status_code=201)
async def create(body: NewCollectionBody, service: ServiceDep) -> JSONResponse:
    """Make an empty collection; needs a key of scope admin."""
    await service.managing.run(hosted_by(service).create, body.name, body.encoder)
    return JSONResponse(await service.reading.run(_named, service, body.name), 201)


@table.get("/{name}", response_model=NamedCollectionAnswer)
async def info(name: _Name, service: ServiceDep) -> JSONResponse:
    """What a collection holds, and its encoder."""
    return JSONResponse(await service.reading.run(_named, service, name))


@table.delete("/{name}", response_model=DeletedCollectionAnswer)
async def delete(name: _Name, service: ServiceDep) -> JSONResponse:
    """Remove a collection with all that it holds; needs a key of scope admin. An alias keeps it from being removed."""
    await service.managing.run(_delete, service, name)
    return JSONResponse({"deleted": name})


def _delete(service: Service, name: str) -> None:
    hosted_by(service).delete(name)
    if service.jobs is not None:
        service.jobs.drop(name)


def _every(hosted: Hosted) -> dict[str, Any]:
    return {
        "collections": hosted.names(),
        "aliases": hosted.aliases(),
        "encoders": [each.identity.spec for each in hosted.encoders],
    }


def _named(service: Service, name: str) -> dict[str, Any]:
    hosted = hosted_by(service)
    real = hosted.real_name(name)
    with Place(service, name).use() as retriever:
        found = info_json(retriever)
    return {"name": real, "aliases": [alias for alias, target in hosted.aliases().items() if target == real], **found}
