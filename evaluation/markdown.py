"""Reports as Markdown tables: one row a task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmseek.evaluation.comparing import Comparison, Difference
    from mmseek.evaluation.report import EvalReport, GroupResult

__all__ = ["comparison_markdown", "markdown_cell", "markdown_table", "report_markdown"]

Rows = Sequence[Sequence[str]]


def report_markdown(report: EvalReport) -> str:
    """The figures of one evaluation. The metric that a task is compared by is in bold."""
    rows = [_row("all", report.overall, report.headline, list(report.metrics))]
    for task, group in report.by_task.items():
        rows.append(_row(task, group, report.headline_of(task), list(report.metrics)))
    if report.reranked is not None:
        rows.append(_row("all, reranked", report.reranked.overall, report.headline, list(report.metrics)))
        for task, group in report.reranked.by_task.items():
            rows.append(_row(f"{task}, reranked", group, report.headline_of(task), list(report.metrics)))
    low, high = report.overall.confidence.get(report.headline, (0.0, 0.0))
    measured = (
        f"`{report.system}`, {report.n_queries:,} queries over {report.n_documents:,} documents; "
        f"{report.headline} 95 % interval [{low:.3f}, {high:.3f}]."
    )
    lines = [
        f"## {markdown_cell(report.dataset)}, split {markdown_cell(report.split)}",
        "",
        measured,
        "",
        markdown_table(["task", "queries", *report.metrics, "tie rate"], rows),
    ]
    if report.warnings:
        lines += ["", *(f"- {warning}" for warning in report.warnings)]
    return "\n".join(lines) + "\n"


def comparison_markdown(found: Comparison) -> str:
    """The figures of two evaluations beside each other. Significant differences are in bold."""
    better, worse, alike = found.wins
    rows = [_compared("all", name, each) for name, each in found.overall.items()]
    for task, group in found.by_task.items():
        rows += [_compared(task, name, each) for name, each in group.items() if name == found.headline]
    compared = (
        f"A: `{found.first}`; B: `{found.second}`; {found.n_queries:,} queries. By {found.headline}, B is better on "
        f"{better:,}, worse on {worse:,} and alike on {alike:,}."
    )
    lines = [
        f"## {markdown_cell(found.dataset)}, split {markdown_cell(found.split)}",
        "",
        compared,
        "",
        markdown_table(["task", "metric", "A", "B", "B - A", "95 % interval", "p (Holm)"], rows),
    ]
    if found.warnings:
        lines += ["", *(f"- {warning}" for warning in found.warnings)]
    return "\n".join(lines) + "\n"


def _row(name: str, group: GroupResult, headline: str, metrics: Sequence[str]) -> list[str]:
    values = [f"{group.metrics[metric]:.3f}" if metric in group.metrics else "" for metric in metrics]
    bold = [f"**{value}**" if metric == headline else value for metric, value in zip(metrics, values, strict=True)]
    return [name, f"{group.n_queries:,}", *bold, f"{group.tie_rate:.3f}"]


def _compared(task: str, metric: str, found: Difference) -> list[str]:
    gain = f"{found.gain:+.3f}"
    return [
        task,
        metric,
        f"{found.first:.3f}",
        f"{found.second:.3f}",
        f"**{gain}**" if found.significant else gain,
        f"[{found.low:+.3f}, {found.high:+.3f}]",
        f"{found.p_holm:.4f}",
    ]


def markdown_table(head: Sequence[str], rows: Rows) -> str:
    """A table whose first two columns are words and the others numbers."""
    lines = [head, ["---"] * 2 + ["---:"] * (len(head) - 2), *rows]
    return "\n".join("| " + " | ".join(markdown_cell(each) for each in line) + " |" for line in lines)


def markdown_cell(text: str) -> str:
    """Text that cannot end its cell."""
    return " ".join(text.split()).replace("|", "\\|")
