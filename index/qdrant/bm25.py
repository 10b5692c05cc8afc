"""BM25 over Qdrant's sparse vectors, with the scores and the order of the embedded collection.

A document's sparse vector was weighted under the mean length that the collection had when it began (`mean0`), and a
score needs the mean of today. A term's weight today is the stored one times something between 1 and mean / mean0, so
a stored score bounds the true one from above: candidates come in the order of stored scores until the bound of the
next is below the k-th true score. Then no document that was not looked at can be among the k best.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mmseek.index.qdrant.store import DOCUMENTS, Condition, Found, Nearest, Store
from mmseek.index.qdrant.terms import query_vector, saturated

_LEAST_WEIGHT = 1e-6  # FTS5's, of words that stand in more than half of the documents
_SLACK = 1 + 1e-5  # Qdrant's scores are float32
_FIELDS = ("row", "terms", "counts", "length")
_MOST = 200_000


@dataclass(frozen=True, slots=True)
class Corpus:
    """What BM25 knows of all documents."""

    documents: int
    mean: float


def corpus(store: Store) -> Corpus:
    """Counted by the store: several writers may have changed it."""
    lengths = store.lengths()
    documents = sum(lengths.values())
    total = sum(length * count for length, count in lengths.items())
    return Corpus(documents, total / documents if total else 1.0)


def best_by_words(
    store: Store, terms: Mapping[str, int], k: int, condition: Condition | None, mean0: float
) -> list[tuple[Found, float]]:
    """The k best documents with at least one of the terms, and their scores; equal scores by row."""
    whole = corpus(store)
    weights = {term: times * _rarity(store, term, whole.documents) for term, times in terms.items()}
    bound = max(1.0, whole.mean / mean0) * _SLACK
    limit = k + max(16, k // 2)
    while True:
        found = store.nearest(Nearest(query_vector(weights), limit, _FIELDS, condition))
        scored = [(_score(one, weights, whole.mean), one) for one in found]
        ranked = sorted(scored, key=lambda pair: (-pair[0], pair[1].payload["row"]))[:k]
        all_seen = len(found) < limit or limit >= _MOST
        if all_seen or found[-1].score * bound < ranked[-1][0]:
            return [(one, score) for score, one in ranked if score > 0]
        limit *= 4


def _rarity(store: Store, term: str, documents: int) -> float:
    having = store.count({"must": [DOCUMENTS, {"key": "terms", "match": {"value": term}}]})
    weight = math.log((documents - having + 0.5) / (having + 0.5)) if having <= documents else 0.0
    return weight if weight > 0 else _LEAST_WEIGHT


def _score(found: Found, weights: Mapping[str, float], mean: float) -> float:
    counts = dict(zip(found.payload["terms"], found.payload["counts"], strict=True))
    length = found.payload["length"]
    return sum(weight * saturated(counts[term], length, mean) for term, weight in weights.items() if term in counts)
