"""One vector for several wishes: texts and pictures with weights, and documents to be near to or far from.

The vector of a mixed query is the sum of its parts, each of length 1 times its weight, brought to length 1 again. The
liked documents count together as one part of weight 1, their mean; the disliked ones as one of weight -0.5. That is
Rocchio's feedback (1971), and with documents alone what Qdrant calls `average_vector`.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmseek._types import Content, Query, Text
from mmseek.errors import InputError
from mmseek.pipeline.encoders import AnyEncoder
from mmseek.protocols import Collection, Encoder, MultiVectorEncoder

if TYPE_CHECKING:
    from mmseek._types import FloatArray

LIKE_WEIGHT = 1.0
UNLIKE_WEIGHT = -0.5
_NOTHING = 1e-6  # a sum as short as this has no direction


def query_vector(query: Query, encoder: AnyEncoder, collection: Collection) -> FloatArray:
    """The vector (dim,) of a query, of length 1 where it is mixed; of a multi-vector collection, (tokens, dim).

    Raises:
        InputError: an id in `like` or `unlike` is unknown, or the parts cancel each other out.
        MmseekError: a part cannot be encoded.
    """
    if not isinstance(encoder, Encoder):
        return query_tokens(query, encoder, collection)
    if not query.is_mixed:
        vector: FloatArray = encoder.encode_query([query.content], query.instruction)[0]
        return vector
    parts = [] if query.content.is_empty else [(query.content, 1.0)]
    parts += [(each.content, each.weight) for each in query.also]
    total = np.zeros(encoder.identity.dim, dtype=np.float64)
    if parts:
        vectors = encoder.encode_query([content for content, _ in parts], query.instruction)
        total += np.array([weight for _, weight in parts]) @ vectors.astype(np.float64)
    total += LIKE_WEIGHT * _mean(query.like, collection, total)
    total += UNLIKE_WEIGHT * _mean(query.unlike, collection, total)
    length = np.linalg.norm(total)
    if length < _NOTHING:
        raise InputError("the weighted parts of the query cancel each other out: change a weight")
    return np.asarray(total / length, dtype=np.float32)


def query_tokens(query: Query, encoder: MultiVectorEncoder, collection: Collection) -> FloatArray:
    """The vectors (tokens, dim) of a query.

    Those of a mixed one are all its parts', each times its weight over the number of the part's tokens: MaxSim is a
    sum over a query's vectors, so the score is the weighted sum of the parts' mean similarities.

    Raises:
        InputError: an id in `like` is unknown, or a part is to be kept away from, which MaxSim cannot say.
        MmseekError: a part cannot be encoded.
    """
    if not query.is_mixed:
        return encoder.encode_query_tokens([query.content], query.instruction)[0]
    if query.unlike or any(each.weight < 0 for each in query.also):
        raise InputError("a multi-vector collection has no weights below 0 and no `unlike`: say what is wanted instead")
    parts = [] if query.content.is_empty else [(query.content, 1.0)]
    parts += [(each.content, each.weight) for each in query.also if each.weight]
    found = encoder.encode_query_tokens([content for content, _ in parts], query.instruction) if parts else []
    weighted = [tokens * (weight / len(tokens)) for tokens, (_, weight) in zip(found, parts, strict=True)]
    liked = collection.vectors(query.like)
    _check_there(query.like, liked)
    weighted += [tokens * (LIKE_WEIGHT / len(tokens) / len(liked)) for tokens in liked.values()]
    if not weighted:
        raise InputError("all parts of the query have weight 0: change a weight")
    return np.concatenate(weighted).astype(np.float32)


def query_words(query: Query) -> str:
    """What is searched in words: the texts that are asked for, those with a weight below 0 left out."""
    wanted = [query.content.text, *(each.content.text for each in query.also if each.weight > 0)]
    return "\n".join(text for text in wanted if text.strip())


def wanted_content(query: Query) -> Content:
    """All that is asked for as one content, for a reranker: the parts with a weight below 0 left out.

    Raises:
        InputError: there is none; documents to be near to are nothing that a reranker can read.
    """
    parts = query.content.parts + tuple(part for each in query.also if each.weight > 0 for part in each.content.parts)
    content = Content(tuple(part for part in parts if not isinstance(part, Text) or part.text.strip()))
    if content.is_empty:
        raise InputError("a reranker needs a text or a picture to compare with: give one, or search without a reranker")
    return content


def _mean(ids: Sequence[str], collection: Collection, like: np.ndarray) -> np.ndarray:
    if not ids:
        return np.zeros_like(like)
    found = collection.vectors(ids)
    _check_there(ids, found)
    rows = np.stack([found[name] for name in ids]).astype(np.float64)
    return np.asarray((rows / np.linalg.norm(rows, axis=1, keepdims=True)).mean(axis=0))


def _check_there(ids: Sequence[str], found: Container[str]) -> None:
    for name in ids:
        if name not in found:
            raise InputError(f"the collection has no document {name!r} to be like or unlike: give the id of one")
