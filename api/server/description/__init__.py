"""What /openapi.json says beyond the types: an example of every request and answer, and every error."""

from mmseek.api.server.description.codes import CODES
from mmseek.api.server.description.openapi import describe

__all__ = ["CODES", "describe"]
