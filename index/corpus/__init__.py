"""Corpus readers: JSONL, folders, pictures, text and Markdown -> documents, streamed."""

from mmseek.index.corpus.entries import Entry, Located, Skipped
from mmseek.index.corpus.reader import read_corpus

__all__ = ["Entry", "Located", "Skipped", "read_corpus"]
