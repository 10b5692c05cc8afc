"""From a query to its hits: by vector, in words or by both, and one for each group if that is asked for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mmseek._types import GroupBy, Hit, Query
from mmseek.pipeline.encoders import AnyEncoder
from mmseek.pipeline.folding import best_of_groups, captioned_pictures, without
from mmseek.pipeline.hybrid import fuse
from mmseek.pipeline.mixing import query_vector, query_words
from mmseek.pipeline.stages import stage
from mmseek.protocols import Collection, Encoder

if TYPE_CHECKING:
    from mmseek._types import FloatArray

_DEPTH = 100  # hits of either list that are fused, at least
_WIDER = 4  # how much deeper a grouped search looks each time it has found too few groups


def run_query(query: Query, encoder: AnyEncoder, collection: Collection) -> tuple[list[Hit], dict[str, float]]:
    """The hits of a query, and the milliseconds of the steps `encode` and `search`.

    A query without words is searched by its vector, whatever its mode.

    Raises:
        MmseekError: as in `Retriever.search`.
    """
    words = query_words(query)
    mode = query.mode if words.strip() else "dense"
    began = time.perf_counter()
    vector = None if mode == "lexical" else query_vector(query, encoder, collection)
    encoded = time.perf_counter()
    search = _Search(query, collection, vector, "" if mode == "dense" else words)
    with stage("search"):
        hits = search.hits(query.k) if query.group_by is None else search.groups(query.k, query.group_by)
    ended = time.perf_counter()
    return hits, {"encode": (encoded - began) * 1000, "search": (ended - encoded) * 1000}


def run_queries(queries: Sequence[Query], encoder: AnyEncoder, collection: Collection) -> list[list[Hit]]:
    """The hits of each of some queries, as `run_query` finds them.

    Those that are one content each, by vector, are encoded in one call for each instruction, and searched in one for
    all that agree in what may be found.

    Raises:
        MmseekError: as in `Retriever.search`; the first query that cannot be answered ends them all.
    """
    found: dict[int, list[Hit]] = {}
    together: dict[object, list[int]] = {}
    for number, query in enumerate(queries):
        if _is_plain(query):
            limits = (query.k, query.exclude, query.candidates, query.filter)
            together.setdefault((query.instruction, limits), []).append(number)
        else:
            found[number] = run_query(query, encoder, collection)[0]
    for numbers in together.values():
        first = queries[numbers[0]]
        contents = [queries[number].content for number in numbers]
        encode = encoder.encode_query if isinstance(encoder, Encoder) else encoder.encode_query_tokens
        with stage("search"):
            hits = collection.search_many(
                encode(contents, first.instruction),
                first.k,
                exclude=first.exclude,
                candidates=first.candidates,
                filter=first.filter,
            )
        found.update(zip(numbers, hits, strict=True))
    return [found[number] for number in range(len(queries))]


def _is_plain(query: Query) -> bool:
    return not query.is_mixed and query.group_by is None and (query.mode == "dense" or not query_words(query).strip())


@dataclass(frozen=True, slots=True)
class _Search:
    """A query that is ready to run: by vector if there is one, in words if there are any."""

    query: Query
    collection: Collection
    vector: FloatArray | None
    words: str

    def hits(self, k: int) -> list[Hit]:
        """The k best."""
        query = self.query
        exclude = query.exclude.union(query.like, query.unlike)
        depth = max(k, _DEPTH) if self.vector is not None and self.words else k
        dense: list[Hit] = []
        lexical: list[Hit] = []
        if self.vector is not None:
            dense = self.collection.search(
                self.vector, depth, exclude=exclude, candidates=query.candidates, filter=query.filter
            )
        if self.words:
            lexical = self.collection.search_text(
                self.words, depth, exclude=exclude, candidates=query.candidates, filter=query.filter
            )
        return fuse(dense, lexical, k) if self.vector is not None and self.words else dense or lexical

    def groups(self, k: int, by: GroupBy) -> list[Hit]:
        """The best hit of each of the k best groups: looks deeper until there are k, or nothing is left."""
        barred = self.query.exclude.union(self.query.like, self.query.unlike) if by == "caption" else frozenset()
        depth = k
        while True:
            depth *= _WIDER
            hits = self.hits(depth)
            best = best_of_groups(without(hits, barred), k, by)
            if len(best) == k or len(hits) < depth:
                return captioned_pictures(best, self.collection) if by == "caption" else best
