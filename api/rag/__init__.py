"""Retrievers for RAG frameworks: one small idea of where to search, `SearchSource`, and an adapter for each framework.

`mmseek.api.rag.langchain`, `.llama_index` and `.haystack` need the extra of their name; this door needs none.
"""

from mmseek.api.rag.local import LocalSource
from mmseek.api.rag.sources import SearchSource, open_source

__all__ = ["LocalSource", "SearchSource", "open_source"]
