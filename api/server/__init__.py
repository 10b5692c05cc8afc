"""The REST service of one collection."""

from mmseek.api.server.app import create_app
from mmseek.api.server.limits import ServerLimits
from mmseek.api.server.runner import serve

__all__ = ["ServerLimits", "create_app", "serve"]
