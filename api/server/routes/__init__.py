"""The routes, a file for each kind of thing."""

from __future__ import annotations

from fastapi import Depends, FastAPI

from mmseek.api.server.hosting.place import named_collection
from mmseek.api.server.routes import (
    aliases,
    asking,
    collection,
    collections,
    documents,
    health,
    jobs,
    listing,
    metrics,
    pictures,
    search,
    thumbnails,
    upkeep,
    uploads,
    web,
)

ROUTERS = (health.router, metrics.router)
# What there is of a collection. Pictures before documents: both take any id, with slashes too.
_OF_A_COLLECTION = (
    search.table,
    asking.table,
    listing.table,
    jobs.table,
    pictures.table,
    documents.table,
    uploads.table,
    thumbnails.table,
    upkeep.table,
)

__all__ = ["ROUTERS", "include_collections"]


def include_collections(app: FastAPI, *, own: bool, many: bool) -> None:
    """Add the routes of the default collection, and those of named ones.

    Args:
        app: what gets them.
        own: whether the server has a collection of its own.
        many: whether it has a folder of them.
    """
    if not (own or many):
        return
    for table in (*_OF_A_COLLECTION, collection.table):
        app.include_router(table.router("/v1"))
    app.include_router(web.router)
    if many:
        for table in (collections.table, aliases.table):
            app.include_router(table.router("/v1"))
        for table in _OF_A_COLLECTION:
            app.include_router(table.router("/v1/collections/{collection}", [Depends(named_collection)]))
