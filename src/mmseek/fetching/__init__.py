"""The one place that fetches addresses of the web: of public hosts only, bounded in bytes and time."""

from mmseek.fetching.addresses import is_public, is_url, shown
from mmseek.fetching.fetcher import Fetched, Fetcher, FetchRules
from mmseek.fetching.store import UrlStore

__all__ = ["FetchRules", "Fetched", "Fetcher", "UrlStore", "is_public", "is_url", "shown"]
