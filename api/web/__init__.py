"""The search page: plain files that a browser takes as they are, with nothing to build and no other host to ask."""

from mmseek.api.web.assets import PAGE, PAGE_BESIDE_OWN, PAGE_HEADERS, PAGE_OF_SEVERAL, Asset, assets

__all__ = ["PAGE", "PAGE_BESIDE_OWN", "PAGE_HEADERS", "PAGE_OF_SEVERAL", "Asset", "assets"]
