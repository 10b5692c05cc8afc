"""From records to figures: of each question by itself, and of retrieval over all of them together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mmseek.evaluation.rag.judging import GRADES
from mmseek.evaluation.rag.records import RagRecord
from mmseek.evaluation.rag.rows import QARow
from mmseek.evaluation.rag.texts import exact_match, requery_score, token_f1, without_citations

__all__ = ["MMSEARCH", "Retrieval", "depths", "mmsearch_score", "retrieval", "scores_of"]

# The weights of MMSearch (arXiv:2409.12959): the whole task counts most, its three steps a little each.
MMSEARCH: Final[Mapping[str, float]] = {"end_to_end": 0.75, "requery": 0.05, "rerank": 0.10, "summarization": 0.10}
_DEPTHS: Final = (1, 2, 3, 5, 10, 20, 50, 100)


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Precision, recall and F1 over all hits of all questions together (micro), as RagLLaVA counts them.

    Args:
        right: hits that are relevant.
        given: hits in all.
        met: relevant things that were found.
        wanted: relevant things in all.
        chance: precision and recall that random hits would have on average.
    """

    right: int
    given: int
    met: int
    wanted: int
    chance: tuple[float, float] = (0.0, 0.0)

    @property
    def precision(self) -> float:
        """Of the hits, how many are relevant; 0 of none."""
        return self.right / self.given if self.given else 0.0

    @property
    def recall(self) -> float:
        """Of what is relevant, how much was found; 0 of nothing."""
        return self.met / self.wanted if self.wanted else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of the two."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0

    def to_json(self) -> dict[str, float | dict[str, float]]:
        """The three, and by chance."""
        return {
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            "chance": {"precision": self.chance[0], "recall": self.chance[1]},
        }


def depths(k: int) -> list[int]:
    """Where retrieval is looked at: the usual depths below k, and k."""
    return [*(each for each in _DEPTHS if each < k), k]


def retrieval(pairs: Iterable[tuple[QARow, RagRecord]], depth: int, n_documents: int) -> Retrieval:
    """Retrieval of the first `depth` hits that reached the threshold. Questions with nothing relevant count hits only.

    Args:
        pairs: questions and what became of them.
        depth: how many hits of each.
        n_documents: how many could be found, for chance.
    """
    right = given = met = wanted = 0
    random_given = random_right = 0.0
    for row, record in pairs:
        hits = record.hits[:depth]
        right += sum(bool(hit.relevant) for hit in hits)
        given += len(hits)
        met += len({each for hit in hits for each in hit.relevant})
        wanted += len(row.relevant)
        pool = n_documents if row.candidates is None else len(row.candidates)
        random_given += min(depth, pool)
        random_right += min(depth, pool) * min(len(row.relevant), pool) / pool if pool else 0.0
    chance = (random_right / random_given if random_given else 0.0, random_right / wanted if wanted else 0.0)
    return Retrieval(right, given, met, wanted, chance)


def scores_of(row: QARow, record: RagRecord, k: int) -> dict[str, float]:
    """The figures of one question, each in [0, 1]; what cannot be measured for it is left out.

    `em` and `f1` of the answer, `precision@k` and `recall@k` of the hits, `cited_precision` of what it cites, `judge`,
    and of MMSearch `end_to_end`, `requery`, `rerank` and `summarization`.
    """
    text = without_citations(record.answer)
    if row.answers:
        em, f1 = (exact_match(text, row.answers), token_f1(text, row.answers)) if record.found else (0.0, 0.0)
    else:
        em = f1 = float(not record.found)
    found = {"em": em, "f1": f1}
    if row.relevant:
        hits = record.hits[:k]
        relevant = {hit.id for hit in hits if hit.relevant}
        met = {each for hit in hits for each in hit.relevant}
        found[f"precision@{k}"] = len(relevant) / len(hits) if hits else 0.0
        found[f"recall@{k}"] = len(met) / len(row.relevant)
        if record.cited:
            found["cited_precision"] = len(relevant.intersection(record.cited)) / len(record.cited)
    if record.judged is not None:
        low, high = GRADES
        found["judge"] = (record.judged - low) / (high - low)
    return found | _mmsearch(row, record, f1)


def _mmsearch(row: QARow, record: RagRecord, f1: float) -> dict[str, float]:
    if record.requeried is None:
        return {}
    found = {"end_to_end": f1}
    if row.requery:
        found["requery"] = requery_score(record.requeried, row.requery)
    if row.relevant:
        first = record.hits[0] if record.hits else None
        found["rerank"] = 0.0 if first is None else 1.0 if first.relevant else 0.5 if record.first_unsure else 0.0
    if record.summary is not None and row.answers:
        found["summarization"] = token_f1(without_citations(record.summary), row.answers)
    return found


def mmsearch_score(means: Mapping[str, float]) -> float | None:
    """MMSearch's score of the four; None where one of them could not be measured."""
    if any(name not in means for name in MMSEARCH):
        return None
    return sum(weight * means[name] for name, weight in MMSEARCH.items())


def named(groups: Sequence[Mapping[str, float]]) -> list[str]:
    """The metrics that any question has, in their order."""
    return list(dict.fromkeys(name for group in groups for name in group))
