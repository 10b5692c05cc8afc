"""What an evaluation of answers found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mmseek.evaluation.metrics import bootstrap
from mmseek.evaluation.rag.records import RagRecord
from mmseek.evaluation.rag.rows import QARow
from mmseek.evaluation.rag.scoring import Retrieval, depths, mmsearch_score, named, retrieval, scores_of
from mmseek.evaluation.report import PerQuery, Problem, counted

__all__ = ["Figure", "RagGroup", "RagReport", "make_report"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean over questions, its 95 % bootstrap interval, and how many questions it is over."""

    mean: float
    low: float
    high: float
    n: int

    def to_json(self) -> dict[str, float | int]:
        """The fields under their names."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "n": self.n}


@dataclass(frozen=True, slots=True)
class RagGroup:
    """The figures of all questions, or of those of one task.

    Args:
        n_questions: how many.
        figures: by metric, see `scores_of`.
        retrieval: by depth.
        mmsearch: the weighted score of MMSearch, if all of its four parts were measured.
    """

    n_questions: int
    figures: Mapping[str, Figure]
    retrieval: Mapping[int, Retrieval]
    mmsearch: float | None

    def to_json(self) -> dict[str, Any]:
        """One JSON object."""
        return {
            "n_questions": self.n_questions,
            "metrics": {name: each.mean for name, each in self.figures.items()},
            "confidence": {name: [each.low, each.high] for name, each in self.figures.items()},
            "n": {name: each.n for name, each in self.figures.items()},
            "retrieval": {str(depth): each.to_json() for depth, each in self.retrieval.items()},
            **({} if self.mmsearch is None else {"mmsearch": self.mmsearch}),
        }


@dataclass(frozen=True, slots=True)
class RagReport:
    """How well questions are answered.

    Args:
        dataset: name of the questions' file.
        system: what was measured, in a few words.
        setup: what the run depends on.
        overall, by_task: the figures; a question that failed scores zero.
        rows, records: the questions, and what became of those that did not fail.
        scores: of each question, in the order of `rows`.
        skipped: rows that could not be used.
        failed: questions that the endpoint did not answer.
        warnings: one sentence for each kind of thing that is odd.
    """

    dataset: str
    system: str
    setup: Mapping[str, Any]
    overall: RagGroup
    by_task: Mapping[str, RagGroup]
    rows: Sequence[QARow]
    records: Mapping[str, RagRecord]
    scores: Sequence[Mapping[str, float]]
    skipped: Sequence[Problem] = ()
    failed: Sequence[Problem] = ()
    warnings: Sequence[str] = field(default=())

    @property
    def per_query(self) -> PerQuery:
        """The metrics that every question has, for comparing two runs."""
        names = [name for name in self.overall.figures if all(name in each for each in self.scores)]
        return PerQuery(
            tuple(row.id for row in self.rows),
            tuple(row.task for row in self.rows),
            {name: tuple(each[name] for each in self.scores) for name in names},
        )

    def worst(self, count: int) -> list[int]:
        """The places of the questions that went worst and not well, the worst first."""
        order = sorted(range(len(self.rows)), key=lambda place: self.scores[place]["f1"])
        return [place for place in order if self.scores[place]["f1"] < 1][:count]

    def to_json(self, *, per_query: bool = False) -> dict[str, Any]:
        """As `mmseek eval --rag --json` prints it; with each question, as `--output` writes it for `--compare`."""
        return {
            "dataset": self.dataset,
            "split": "rag",
            "encoder": self.system,
            "headline": "f1",
            "setup": dict(self.setup),
            **self.overall.to_json(),
            "by_task": {task: group.to_json() for task, group in self.by_task.items()},
            "warnings": list(self.warnings),
            "skipped": [problem.to_json() for problem in self.skipped],
            "failed": [problem.to_json() for problem in self.failed],
            **({"per_query": self.per_query.to_json(), "questions": self._questions()} if per_query else {}),
        }

    def _questions(self) -> list[dict[str, Any]]:
        found = []
        for row, scores in zip(self.rows, self.scores, strict=True):
            record = self.records.get(row.id)
            hits = () if record is None else record.hits
            said = {
                "answer": None if record is None else record.answer,
                "hits": [hit.id for hit in hits],
                "cited": [] if record is None else list(record.cited),
            }
            found.append(
                {
                    "id": row.id,
                    "question": row.question.text,
                    "right": list(row.answers),
                    **said,
                    "scores": dict(scores),
                }
            )
        return found


def make_report(
    *,
    dataset: str,
    system: str,
    setup: Mapping[str, Any],
    rows: Sequence[QARow],
    records: Mapping[str, RagRecord],
    k: int,
    n_documents: int,
    skipped: Sequence[Problem] = (),
    failed: Sequence[Problem] = (),
) -> RagReport:
    """Score the records.

    Args:
        dataset, system, setup, rows, records, skipped, failed: see `RagReport`.
        k: how many hits were asked for.
        n_documents: of the corpus.
    """
    lost = {problem.id for problem in failed}
    scores = [scores_of(row, records.get(row.id) or _nothing(row, records), k) for row in rows]
    tasks: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        if row.task is not None:
            tasks.setdefault(row.task, []).append(place)

    def group(places: Sequence[int]) -> RagGroup:
        pairs = [(rows[at], records.get(rows[at].id) or _nothing(rows[at], records)) for at in places]
        figures = _figures([scores[at] for at in places])
        return RagGroup(
            len(places),
            figures,
            {depth: retrieval(pairs, depth, n_documents) for depth in depths(k)},
            mmsearch_score({name: each.mean for name, each in figures.items()}),
        )

    overall = group(range(len(rows)))
    return RagReport(
        dataset=dataset,
        system=system,
        setup=setup,
        overall=overall,
        by_task={task: group(tasks[task]) for task in sorted(tasks)},
        rows=rows,
        records=records,
        scores=scores,
        skipped=skipped,
        failed=failed,
        warnings=_warnings(rows, records, overall, skipped, lost, judged=bool(setup.get("judge"))),
    )


def _nothing(row: QARow, records: Mapping[str, RagRecord]) -> RagRecord:
    """What a question that failed came to: as wrong as can be, in every part that the others were measured in."""
    searched = any(each.requeried is not None for each in records.values())
    judged = any(each.judged is not None for each in records.values())
    return RagRecord(
        id=row.id,
        answer="",
        found=bool(not row.answers),
        hits=(),
        cited=(),
        invented=(),
        searched="",
        below=0,
        took_ms=0.0,
        requeried="" if searched else None,
        summary="" if searched and row.relevant else None,
        judged=1 if judged else None,
    )


def _figures(scores: Sequence[Mapping[str, float]]) -> dict[str, Figure]:
    found = {}
    for name in named(scores):
        values = np.array([each[name] for each in scores if name in each])
        low, high = bootstrap(values[:, None])
        found[name] = Figure(float(values.mean()), float(low[0]), float(high[0]), len(values))
    return found


def _warnings(
    rows: Sequence[QARow],
    records: Mapping[str, RagRecord],
    overall: RagGroup,
    skipped: Sequence[Problem],
    lost: set[str | None],
    *,
    judged: bool,
) -> list[str]:
    found = []
    if skipped:
        found.append(f"{counted(len(skipped), 'row')} could not be used, the first because {skipped[0].reason}")
    if lost:
        found.append(f"{counted(len(lost), 'question')} failed and scored zero; the same command asks again")
    silent = sum(1 for record in records.values() if record.found and not record.cited)
    if silent:
        found.append(f"{counted(silent, 'answer cites', 'answers cite')} no source")
    invented = sum(1 for record in records.values() if record.invented)
    if invented:
        found.append(f"{counted(invented, 'answer cites', 'answers cite')} numbers that are no sources")
    ungraded = sum(1 for row in rows if row.id in records and records[row.id].judged is None)
    if judged and ungraded:
        found.append(f"the judge gave no grade that can be read to {counted(ungraded, 'answer')}, which are left out")
    measured = any(record.requeried is not None for record in records.values())
    if measured and overall.mmsearch is None:
        parts = [name for name in ("requery", "rerank", "summarization") if name not in overall.figures]
        found.append(f"there is no MMSearch score, for no row has what is needed for {' and '.join(parts)}")
    return found
