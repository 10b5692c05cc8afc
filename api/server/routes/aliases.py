from __future__ import annotations

from typing import Annotated

from fastapi import Path
from fastapi.responses import JSONResponse

from mmseek.api.server.routes.collections import hosted_by
from mmseek.api.server.routes.table import RouteTable
from mmseek.api.server.schemas_collections import AliasAnswer, AliasBody, AliasesAnswer, DeletedAliasAnswer
from mmseek.api.server.service import ServiceDep

table = RouteTable("/aliases", tags=["collections"])

_Alias = Annotated[str, Path(description="the name of an alias")]


@table.get("", response_model=AliasesAnswer)
async def every(service: ServiceDep) -> JSONResponse:
    """The aliases, each with the collection that it stands for."""
    return JSONResponse({"aliases": await service.reading.run(hosted_by(service).aliases)})


@table.put("/{alias}", response_model=AliasAnswer)
async def put(alias: _Alias, body: AliasBody, service: ServiceDep) -> JSONResponse:
    """Let an alias stand for a collection, from one request to the next; needs a key of scope admin."""
    hosted = hosted_by(service)
    before = await service.managing.run(hosted.set_alias, alias, body.collection)
    return JSONResponse({"alias": alias, "collection": hosted.real_name(alias), "before": before})


@table.delete("/{alias}", response_model=DeletedAliasAnswer)
async def remove(alias: _Alias, service: ServiceDep) -> JSONResponse:
    """Take an alias away, not its collection; needs a key of scope admin."""
    await service.managing.run(hosted_by(service).remove_alias, alias)
    return JSONResponse({"deleted": alias})
