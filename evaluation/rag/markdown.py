"""The report of answers as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from mmseek.evaluation.markdown import markdown_cell, markdown_table
from mmseek.evaluation.rag.report import RagGroup, RagReport

__all__ = ["rag_markdown"]

_WORST = 20


def rag_markdown(report: RagReport) -> str:
    """The figures, overall and by task, retrieval by depth, and the questions that went worst."""
    groups = {"all": report.overall, **report.by_task}
    lines = [
        f"## {markdown_cell(report.dataset)}: answers",
        "",
        f"`{report.system}`, {report.overall.n_questions:,} questions.",
        "",
        markdown_table(
            ["task", "metric", "mean", "95 % interval", "questions"],
            [row for task, group in groups.items() for row in _figures(task, group)],
        ),
        "",
        "Retrieval over all questions together (micro), of the hits that reached the threshold:",
        "",
        markdown_table(
            ["task", "hits", "precision", "recall", "F1", "by chance, precision", "by chance, recall"],
            [row for task, group in groups.items() for row in _retrieval(task, group)],
        ),
        "",
        "The questions that went worst:",
        "",
        markdown_table(["question", "answer", "right", "F1"], list(_worst(report))),
    ]
    if report.warnings:
        lines += ["", *(f"- {warning}" for warning in report.warnings)]
    return "\n".join(lines) + "\n"


def _figures(task: str, group: RagGroup) -> Iterator[list[str]]:
    for name, each in group.figures.items():
        yield [task, name, f"{each.mean:.3f}", f"[{each.low:.3f}, {each.high:.3f}]", f"{each.n:,}"]
    if group.mmsearch is not None:
        yield [task, "**MMSearch**", f"**{group.mmsearch:.3f}**", "", f"{group.n_questions:,}"]


def _retrieval(task: str, group: RagGroup) -> Iterator[list[str]]:
    for depth, each in group.retrieval.items():
        figures = (each.precision, each.recall, each.f1, *each.chance)
        yield [task, f"first {depth}", *(f"{figure:.3f}" for figure in figures)]


def _worst(report: RagReport) -> Iterator[list[str]]:
    for place in report.worst(_WORST):
        row, record = report.rows[place], report.records.get(report.rows[place].id)
        said = "(failed)" if record is None else record.answer[:200]
        right = " / ".join(row.answers) or "(not in the corpus)"
        yield [row.question.text[:200] or row.id, said, right[:200], f"{report.scores[place]['f1']:.3f}"]
