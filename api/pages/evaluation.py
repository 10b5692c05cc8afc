"""The page of an evaluation: its plots, and the queries that went worst as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmseek._types import Hit, Query
from mmseek.api.pages.plots import bars, curves, plane
from mmseek.api.pages.results import Figure, ResultSection, render_page

if TYPE_CHECKING:
    from mmseek.evaluation import Comparison, EvalReport
    from mmseek.evaluation.details import Details, Failure

__all__ = ["render_evaluation"]

_TITLE = 80


def render_evaluation(reports: Sequence[EvalReport], comparison: Comparison | None = None) -> str:
    """A page with everything inside: bars by task, recall curves, the modality gap, and failures.

    Args:
        reports: of one dataset, one for each system; the failures are those of the last.
        comparison: of the two, if there are two.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    first = reports[0]
    figures = [_bars(reports), _curves(reports)]
    sections: list[ResultSection] = []
    drawn = [(report.details, report.system) for report in reports if report.details is not None]
    figures += [_gap(details, name) for details, name in drawn if len(details.points)]
    if (last := reports[-1].details) is not None:
        sections = [_section(each) for each in last.failures]
    summary = comparison_sentence(comparison) if comparison else _sentence(first)
    return render_page(sections, title=f"{first.dataset}, {first.split}", summary=summary, figures=figures)


def _sentence(report: EvalReport) -> str:
    name = report.headline if report.headline in report.metrics else next(iter(report.metrics))
    low, high = report.overall.confidence[name]
    return (
        f"{report.system}: {name} {report.metrics[name]:.3f} [{low:.3f}, {high:.3f}], by chance "
        f"{report.overall.chance[name]:.3f}, on {report.n_queries:,} queries over {report.n_documents:,} documents"
    )


def comparison_sentence(comparison: Comparison) -> str:
    """The headline of a comparison in words."""
    found = comparison.overall[comparison.headline]
    sure = "significant" if found.significant else "not significant"
    better, worse, alike = comparison.wins
    return (
        f"{comparison.second} against {comparison.first}: {comparison.headline} {found.first:.3f} -> "
        f"{found.second:.3f} ({found.gain:+.3f} [{found.low:+.3f}, {found.high:+.3f}], p {found.p_holm:.4f}, {sure}); "
        f"{better:,} queries better, {worse:,} worse, {alike:,} alike"
    )


def _bars(reports: Sequence[EvalReport]) -> Figure:
    tasks = list(reports[0].by_task)
    series = {}
    for report in reports:
        groups = {"all": report.overall, **report.by_task}
        series[report.system] = [
            (
                group.metrics.get(name, 0.0),
                group.confidence.get(name, (0.0, 0.0)),
                group.chance.get(name, 0.0),
            )
            for task in ("all", *tasks)
            if (group := groups.get(task)) is not None
            for name in [report.headline_of(None if task == "all" else task)]
        ]
    labels = [f"{task}\n{reports[0].headline_of(None if task == 'all' else task)}" for task in ("all", *tasks)]
    alt = "The headline metric of all queries and of each task, with 95 % intervals; lines mark chance."
    return Figure(bars(labels, series), alt)


def _curves(reports: Sequence[EvalReport]) -> Figure:
    lines = {}
    for report in reports:
        lines[report.system] = report.overall.curve
        if len(reports) == 1:
            lines |= {task: group.curve for task, group in report.by_task.items()}
    return Figure(curves(lines), "Recall by depth: the share of the relevant documents among the first k.")


def _gap(details: Details, name: str) -> Figure:
    alt = f"{name}: queries and documents by modality on their first two principal components"
    if details.gap == details.gap:  # not NaN
        alt += f"; the means of queries and documents are {details.gap:.3f} apart"
    return Figure(plane(details.points, details.labels), f"{alt}.")


def _section(failure: Failure) -> ResultSection:
    query = failure.query
    words = " ".join(query.content.text.split())[:_TITLE]
    right = {document.id for document in failure.relevant}
    shown = {document.id for document in failure.found}
    documents = [*failure.found, *(each for each in failure.relevant if each.id not in shown)]
    where = "is not in the ranking" if failure.rank is None else f"comes at rank {failure.rank}"
    # A document that should have been found has no rank here, and 0 shows none.
    hits = [
        Hit(place if document.id in shown else 0, document.id, 0.0, {}, document)
        for place, document in enumerate(documents, start=1)
    ]
    marks = {document.id: "not relevant" for document in documents} | dict.fromkeys(right, "relevant")
    marks |= dict.fromkeys(right - shown, "should have been found")
    return ResultSection(
        title=words or query.id,
        query=Query(query.content, query.instruction),
        hits=hits,
        note=f"{query.id}: the first relevant document {where}",
        marks=marks,
    )
