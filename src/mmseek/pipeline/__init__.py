"""Where the rooms meet: indexing a corpus, and searching it."""

from mmseek.pipeline.indexing import index_corpus
from mmseek.pipeline.report import IndexingInterrupted, IndexingStopped, IndexReport, Progress, write_report
from mmseek.pipeline.reranking import Reranking
from mmseek.pipeline.retriever import Retriever, SearchResult
from mmseek.pipeline.tuning import tune_collection

__all__ = [
    "IndexReport",
    "IndexingInterrupted",
    "IndexingStopped",
    "Progress",
    "Reranking",
    "Retriever",
    "SearchResult",
    "index_corpus",
    "tune_collection",
    "write_report",
]
