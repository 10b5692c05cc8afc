"""The REST service: a collection, or models alone."""

from mmseek.api.server.answering import Answering
from mmseek.api.server.app import create_app
from mmseek.api.server.config import ServeSettings, serve_settings
from mmseek.api.server.limits import ServerLimits
from mmseek.api.server.runner import serve

__all__ = ["Answering", "ServeSettings", "ServerLimits", "create_app", "serve", "serve_settings"]
