"""The search page: plain files that a browser takes as they are, with nothing to build and no other host to ask."""

from mmseek.api.web.assets import PAGE_HEADERS, Asset, assets

__all__ = ["PAGE_HEADERS", "Asset", "assets"]
