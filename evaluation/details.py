"""What a page shows beside the figures: where queries and documents lie, and the queries that went worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from mmseek._types import Document

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mmseek._types import FloatArray
    from mmseek.evaluation.dataset import Dataset, EvalQuery
    from mmseek.evaluation.ranking import Ranked

__all__ = ["Details", "Failure", "Vectors", "ids_of", "look"]

_POINTS: Final = 400  # of queries, and of documents
_FAILURES: Final = 12
_SHOWN: Final = 5
_SEED: Final = 0


@dataclass(frozen=True, slots=True)
class Vectors:
    """Vectors (n, dim) under their ids."""

    ids: Sequence[str]
    vectors: FloatArray


@dataclass(frozen=True, slots=True)
class Failure:
    """A query whose relevant documents came late or never.

    Args:
        query: the query.
        found: the first documents of its ranking.
        relevant: documents that it should have found.
        rank: where the first relevant one came, from 1; None if it is not in the ranking.
    """

    query: EvalQuery
    found: tuple[Document, ...]
    relevant: tuple[Document, ...]
    rank: int | None


@dataclass(frozen=True, slots=True)
class Details:
    """What is looked at, not counted.

    Args:
        points: shape (n, 2), a sample of queries and documents on the first two principal components.
        labels: of each point: `query, text`, `document, image`.
        gap: distance of the mean query vector from the mean document vector, of the sample (Liang et al. 2022).
        failures: the worst queries.
    """

    points: NDArray[np.float64]
    labels: tuple[str, ...]
    gap: float
    failures: tuple[Failure, ...]


def look(data: Dataset, queries: Vectors | None, corpus: Vectors | None, found: Mapping[str, Sequence[str]]) -> Details:
    """Sample vectors and choose the worst queries; reads the corpus once.

    Args:
        data: the dataset.
        queries, corpus: vectors, if they are known.
        found: the ids of each query's ranking, best first.
    """
    random = np.random.default_rng(_SEED)
    ranks = {query.id: _first(found.get(query.id, ()), data.qrels[query.id]) for query in data.queries}
    worst = sorted(data.queries, key=lambda query: -(ranks[query.id] or 10**9))[: _FAILURES * 4]
    worst = [query for query in worst if ranks[query.id] != 1]
    chosen = [worst[at] for at in sorted(random.permutation(len(worst))[:_FAILURES])]
    samples = [None if each is None else _sample(each, random) for each in (queries, corpus)]
    wanted = {each for query in chosen for each in (*found.get(query.id, ())[:_SHOWN], *data.qrels[query.id])}
    if samples[1] is not None:
        wanted |= set(samples[1].ids)
    documents = {each.id: each for each in data.corpus() if isinstance(each, Document) and each.id in wanted}
    modalities = {query.id: query.content.modality for query in data.queries}
    labels, rows = [], []
    for side, sample in zip(("query", "document"), samples, strict=True):
        for name, vector in zip(sample.ids, sample.vectors, strict=True) if sample else ():
            known = modalities.get(name) if side == "query" else _modality(documents.get(name))
            labels.append(f"{side}, {known or 'unknown'}")
            rows.append(vector)
    return Details(
        points=_plane(np.array(rows, dtype=np.float64)),
        labels=tuple(labels),
        gap=_gap(samples[0], samples[1]),
        failures=tuple(_failure(query, found.get(query.id, ()), data, documents, ranks[query.id]) for query in chosen),
    )


def ids_of(found: Mapping[str, Ranked], ids: Sequence[str]) -> dict[str, list[str]]:
    """Rankings in ids instead of rows, as deep as they are shown or compared."""
    return {name: [ids[row] for row in ranked.rows] for name, ranked in found.items()}


def _first(found: Sequence[str], relevant: Mapping[str, int]) -> int | None:
    return next((place for place, each in enumerate(found, start=1) if each in relevant), None)


def _sample(vectors: Vectors, random: np.random.Generator) -> Vectors:
    rows = np.sort(random.permutation(len(vectors.ids))[:_POINTS])
    return Vectors([vectors.ids[row] for row in rows], vectors.vectors[rows])


def _modality(document: Document | None) -> str | None:
    return None if document is None else document.content.modality


def _plane(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(rows) < 2:
        return np.zeros((len(rows), 2))
    centred = rows - rows.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    flat = centred @ axes[:2].T
    return np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))


def _gap(queries: Vectors | None, corpus: Vectors | None) -> float:
    if queries is None or corpus is None or not len(queries.ids) or not len(corpus.ids):
        return float("nan")
    return float(np.linalg.norm(queries.vectors.mean(axis=0) - corpus.vectors.mean(axis=0)))


def _failure(
    query: EvalQuery, found: Sequence[str], data: Dataset, documents: Mapping[str, Document], rank: int | None
) -> Failure:
    return Failure(
        query,
        tuple(documents[each] for each in found[:_SHOWN] if each in documents),
        tuple(documents[each] for each in list(data.qrels[query.id])[:_SHOWN] if each in documents),
        rank,
    )
