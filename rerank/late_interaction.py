"""`late-interaction`: MaxSim over an encoder's vectors of each token (Khattab and Zaharia 2020, arXiv:2004.12832).

The encoder is handed in, for the rooms do not know each other: `mmseek.load_reranker("late-interaction:colqwen2:DIR")`
joins the two. A query is encoded once for all its documents, and equal documents of a window once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final, NoReturn

import numpy as np

from mmseek._types import Content, Encoded, EncodeRequest, Pair, RerankerIdentity, Scored, Sent
from mmseek.errors import EncodeError, SpecError
from mmseek.models.maxsim import maxsim
from mmseek.models.spec import Spec
from mmseek.protocols import Reading
from mmseek.rerank.base import placed

if TYPE_CHECKING:
    from mmseek._types import FloatArray
    from mmseek.protocols import MultiVectorEncoder

__all__ = ["LateInteractionReranker", "load"]

# To be raised by any change that gives other scores from the same vectors.
RECIPE_VERSION: Final = 1
_WINDOW: Final = 128


class LateInteractionReranker:
    """Scores by MaxSim: the sum over the query's vectors, so at most their number. Thread-safe if the encoder is.

    Args:
        encoder: gives the vectors; its fingerprint is part of the reranker's.
    """

    def __init__(self, encoder: MultiVectorEncoder) -> None:
        self._encoder = encoder
        recipe = f"late-interaction {RECIPE_VERSION} {encoder.identity.fingerprint}"
        self._identity = RerankerIdentity(
            spec=f"late-interaction:{encoder.identity.spec}", fingerprint=hashlib.sha256(recipe.encode()).hexdigest()
        )

    @property
    def identity(self) -> RerankerIdentity:
        return self._identity

    def score(self, query: Content, documents: Sequence[Content], instruction: str | None = None) -> FloatArray:
        """Scores (n,), float32, one a document in their order, higher is better.

        Raises:
            MmseekError: the query, or the first document that cannot be encoded; of several, its position is named.
        """
        scores = np.empty(len(documents), dtype=np.float32)
        pairs = (Pair(query, document, instruction) for document in documents)
        for position, scored in enumerate(self.stream(pairs)):
            if scored.score is None:
                raise placed(scored.error, position if len(documents) > 1 else None)
            scores[position] = scored.score
        return scores

    def stream(self, pairs: Iterable[Pair]) -> Iterator[Scored]:
        """Score any number of pairs in bounded memory: one outcome each, in input order; a bad one fails alone."""
        waiting = iter(pairs)
        known: dict[EncodeRequest, Encoded] = {}
        while window := list(islice(waiting, _WINDOW)):
            queries = {EncodeRequest(pair.query, "query", pair.instruction) for pair in window}
            # Those of the window before are kept, for the pairs of a query mostly follow one another.
            known = {query: encoded for query, encoded in known.items() if query in queries}
            new = [query for query in dict.fromkeys(map(_query, window)) if query not in known]
            documents = [EncodeRequest(pair.document) for pair in window]
            outcomes = self._encoder.stream_tokens([*new, *documents])
            known.update(zip(new, outcomes, strict=False))
            for pair, document in zip(window, outcomes, strict=True):
                yield _scored(known[_query(pair)], document)

    def sent(self, pair: Pair) -> Sent:
        """What the encoder reads of the query and, on the next line, of the document: each by itself.

        Raises:
            MmseekError: one of them cannot be encoded.
        """
        requests = _query(pair), EncodeRequest(pair.document)
        if isinstance(self._encoder, Reading):
            return _both(*map(self._encoder.reads, requests))
        return _both(*(Sent(request.content.text) for request in requests))


def _both(query: Sent, document: Sent) -> Sent:
    known = query.tokens is not None and document.tokens is not None
    return Sent(
        prompt=f"{query.prompt}\n{document.prompt}",
        picture_tokens=(*query.picture_tokens, *document.picture_tokens),
        tokens=(query.tokens or 0) + (document.tokens or 0) if known else None,
    )


def _query(pair: Pair) -> EncodeRequest:
    return EncodeRequest(pair.query, "query", pair.instruction)


def _scored(query: Encoded, document: Encoded) -> Scored:
    for each in (query, document):
        if each.error is not None:
            return Scored(error=each.error)
    if query.vector is None or document.vector is None:
        return Scored(error=EncodeError("the encoder gave neither vectors nor an error: report this as a bug"))
    return Scored(score=maxsim(query.vector, document.vector))


def load(spec: Spec, *, device: str | None) -> NoReturn:
    """Nothing can be loaded without the encoder.

    Raises:
        SpecError: always; it names the way.
    """
    del device
    raise SpecError(f"{spec} needs its encoder: use mmseek.load_reranker, or LateInteractionReranker(encoder)")
