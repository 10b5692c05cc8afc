"""Texts as counted terms, cut and stemmed by SQLite's FTS5 exactly as the embedded collection's index of words does."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Mapping, Sequence

from mmseek.index.qdrant.store import Sparse
from mmseek.index.words import SCHEMA, match_any

K1, B = 1.2, 0.75  # those of FTS5
_COUNTS = """
    SELECT json_group_array(json_array(doc, term, times))
    FROM (SELECT doc, term, count(*) AS times FROM tokens GROUP BY doc, term)
"""


class Tokenizer:
    """FTS5 in memory, used for nothing but its tokens. Safe to use from several threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._sql = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self._sql.execute(SCHEMA)
        self._sql.execute("CREATE VIRTUAL TABLE tokens USING fts5vocab(words, instance)")

    def count(self, texts: Sequence[str]) -> list[Counter[str]]:
        """How often each term stands in each text."""
        counts: list[Counter[str]] = [Counter() for _ in texts]
        # One step each way: every step of SQLite gives Python's lock away, and with many threads waits for it long.
        # A NUL parts words to FTS5 as a space does, and ends a string of JSON to SQLite.
        given = json.dumps([text.replace("\0", " ") for text in texts])
        with self._guard:
            self._sql.execute("BEGIN")
            try:
                self._sql.execute("INSERT INTO words (rowid, text) SELECT key + 1, value FROM json_each(?)", (given,))
                (found,) = self._sql.execute(_COUNTS).fetchone()
            finally:
                self._sql.execute("ROLLBACK")
        for row, term, times in json.loads(found):
            counts[row - 1][term] = times
        return counts

    def query(self, text: str) -> Counter[str]:
        """The terms of a query: each of its words once, so two words of one stem count twice."""
        words = match_any(text)
        return Counter() if words is None else self.count([words.replace(" OR ", " ")])[0]


def saturated(count: int, length: float, mean: float) -> float:
    """BM25 of one term in a document of `length` terms, without the weight of the term's rarity."""
    return count * (K1 + 1) / (count + K1 * (1 - B + B * length / mean))


def document_vector(counts: Mapping[str, int], mean: float) -> Sparse:
    """What is stored for a document, weighted as if `mean` were the mean length."""
    length = sum(counts.values())
    return _sparse({term: saturated(count, length, mean) for term, count in counts.items()})


def query_vector(weights: Mapping[str, float]) -> Sparse:
    """Terms and their weights, so that the inner product with a document's vector is its score."""
    return _sparse(weights)


def _sparse(weights: Mapping[str, float]) -> Sparse:
    values: dict[int, float] = {}
    for term, weight in sorted(weights.items()):
        index = int.from_bytes(hashlib.blake2b(term.encode(), digest_size=4).digest(), "little")
        values[index] = values.get(index, 0.0) + weight
    return Sparse(list(values), list(values.values()))
