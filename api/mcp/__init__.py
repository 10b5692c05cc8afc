"""A collection as tools of a language model, over the Model Context Protocol.

Raises:
    MissingExtra: mcp is not installed.
"""

from importlib.util import find_spec

from mmseek.errors import MissingExtra

if find_spec("mcp") is None:
    raise MissingExtra("the MCP server", "mcp")

from mmseek.api.mcp.server import make_server

__all__ = ["make_server"]
