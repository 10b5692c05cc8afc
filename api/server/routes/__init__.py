"""The routes, a file for each kind of thing."""

from mmseek.api.server.routes import asking, collection, documents, health, metrics, pictures, search, thumbnails, web

ROUTERS = (health.router, metrics.router)
# Pictures before documents: both take any id, with slashes too.
COLLECTION_ROUTERS = (
    search.router,
    asking.router,
    collection.router,
    pictures.router,
    documents.router,
    thumbnails.router,
    web.router,
)

__all__ = ["COLLECTION_ROUTERS", "ROUTERS"]
