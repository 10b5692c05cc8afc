"""Corpus readers: files, folders, archives and tables of any common format -> documents, streamed."""

from mmseek.index.corpus.entries import PASSAGE_CHARS, Deferred, Ended, Entry, Located, Skipped, held_bytes
from mmseek.index.corpus.reader import read_corpus

__all__ = ["PASSAGE_CHARS", "Deferred", "Ended", "Entry", "Located", "Skipped", "held_bytes", "read_corpus"]
