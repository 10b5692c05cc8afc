"""Several collections under one server: a folder of them, names that are checked, and handles that are bounded."""

from mmseek.api.server.hosting.hosted import Hosted
from mmseek.api.server.hosting.names import DEFAULT_NAME, NAME_PATTERN, check_name
from mmseek.api.server.hosting.root import CollectionRoot

__all__ = ["DEFAULT_NAME", "NAME_PATTERN", "CollectionRoot", "Hosted", "check_name"]
