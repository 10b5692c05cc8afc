"""The routes, a file for each kind of thing."""

from mmseek.api.server.routes import collection, documents, health, pictures, search, thumbnails, web

# Pictures before documents: both take any id, with slashes too.
ROUTERS = (
    health.router,
    search.router,
    collection.router,
    pictures.router,
    documents.router,
    thumbnails.router,
    web.router,
)

__all__ = ["ROUTERS"]
