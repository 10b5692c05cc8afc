"""The page of an evaluation of answers: its plot, and the questions that went worst with what was found for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from mmseek._types import Document, Hit, Query
from mmseek.api.pages.plots import bars
from mmseek.api.pages.results import Figure, ResultSection, render_page

if TYPE_CHECKING:
    from mmseek.evaluation.rag import RagReport

__all__ = ["render_answers"]

_WORST: Final = 20
_TITLE: Final = 80


def render_answers(report: RagReport, documents: Mapping[str, Document]) -> str:
    """A page with everything inside: bars of each metric with intervals, and the worst questions with their hits.

    Args:
        report: what was found.
        documents: by id, those that are to be shown; see `shown_ids`.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    places = report.worst(_WORST)
    sections = [_section(report, place, documents) for place in places]
    return render_page(sections, title=f"{report.dataset}: answers", summary=_summary(report), figures=[_bars(report)])


def shown_ids(report: RagReport) -> list[str]:
    """The ids of the documents that the page shows."""
    ids = dict.fromkeys(
        name
        for place in report.worst(_WORST)
        for row in [report.rows[place]]
        for name in (
            *(hit.id for hit in (report.records[row.id].hits if row.id in report.records else ())),
            *(each.id for each in row.relevant),
        )
    )
    return list(ids)


def _summary(report: RagReport) -> str:
    figures = report.overall.figures
    deepest = max(report.overall.retrieval)
    found = report.overall.retrieval[deepest]
    words = (
        f"{report.system}: F1 {figures['f1'].mean:.3f} [{figures['f1'].low:.3f}, {figures['f1'].high:.3f}], exact "
        f"{figures['em'].mean:.3f}; of the hits {found.precision:.3f} are relevant, of what is relevant "
        f"{found.recall:.3f} was found; {report.overall.n_questions:,} questions"
    )
    return words if report.overall.mmsearch is None else f"{words}; MMSearch {report.overall.mmsearch:.3f}"


def _bars(report: RagReport) -> Figure:
    groups = {"all": report.overall, **report.by_task}
    names = list(report.overall.figures)
    series = {
        task: [
            (each.mean, (each.low, each.high), 0.0) if (each := group.figures.get(name)) else (0.0, (0.0, 0.0), 0.0)
            for name in names
        ]
        for task, group in groups.items()
    }
    return Figure(bars(names, series), "Each metric, of all questions and of each task, with 95 % intervals.")


def _section(report: RagReport, place: int, documents: Mapping[str, Document]) -> ResultSection:
    row, record = report.rows[place], report.records.get(report.rows[place].id)
    right = " / ".join(row.answers) or "(not in the corpus)"
    said = "the question failed" if record is None else f"answered: {record.answer}"
    found = () if record is None else record.hits
    hits = [
        Hit(rank, each.id, each.score, {}, documents[each.id])
        for rank, each in enumerate(found, start=1)
        if each.id in documents
    ]
    marks = {each.id: "relevant" if each.relevant else "not relevant" for each in found}
    for name in () if record is None else record.cited:
        marks[name] = f"{marks.get(name, '')}, cited"
    for each in row.relevant:
        if each.id in documents and each.id not in marks:
            hits.append(Hit(0, each.id, 0.0, {}, documents[each.id]))
            marks[each.id] = "should have been found"
    return ResultSection(
        title=" ".join(row.question.text.split())[:_TITLE] or row.id,
        query=Query(row.question),
        hits=hits,
        note=f"{row.id}: {said}. Right: {right}. F1 {report.scores[place]['f1']:.3f}",
        marks=marks,
    )
