"""What `mmseek eval` measures, and how it shows what it found."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmseek.cli.opening import load, load_scorer, open_retriever
from mmseek.cli.options import write_text
from mmseek.cli.output import count, one_line, say
from mmseek.cli.progress import Meter
from mmseek.errors import InputError

if TYPE_CHECKING:
    from mmseek._types import SearchMode
    from mmseek.evaluation import Comparison, Dataset, EvalReport, GroupResult, Problem, Side
    from mmseek.evaluation.rag import RagData
    from mmseek.pipeline import Retriever

__all__ = [
    "Asked",
    "Files",
    "corpus_retriever",
    "measure",
    "measure_both",
    "show_comparison",
    "show_report",
    "write_json",
    "write_page",
]


@dataclass(frozen=True, slots=True)
class Files:
    """Where results are written besides the screen."""

    output: Path | None
    markdown: Path | None
    html: Path | None


@dataclass(frozen=True, slots=True)
class Asked:
    """What the options say of what is measured.

    Args:
        collection: a collection whose retriever is measured.
        mode: how it searches; with neither of the two, the encoder alone is measured.
        rerank, rerank_depth: the reranker, and how many it orders.
        device: where models run.
        details: whether a page will be made.
    """

    collection: str | None
    mode: SearchMode | None
    rerank: str | None
    rerank_depth: int
    device: str | None
    details: bool

    @property
    def whole(self) -> bool:
        """Whether a whole retriever is measured."""
        return self.collection is not None or self.mode is not None


def measure(data: Dataset, encoder: str, asked: Asked) -> EvalReport:
    """Measure an encoder, or a retriever of it.

    Raises:
        MmseekError: something cannot be loaded or measured.
    """
    from mmseek.evaluation import evaluate, evaluate_retriever

    if asked.whole:
        with corpus_retriever(data, encoder, asked) as (retriever, failed), Meter("queries") as meter:
            return evaluate_retriever(
                data,
                retriever,
                mode=asked.mode or "dense",
                failed_corpus=failed,
                details=asked.details,
                on_progress=meter.phase,
            )
    model = load(encoder, asked.device)
    scorer = None if asked.rerank is None else load_scorer(asked.rerank, asked.device)
    with Meter("queries") as meter:
        return evaluate(
            data,
            model,
            reranker=scorer,
            rerank_depth=asked.rerank_depth,
            details=asked.details,
            on_progress=meter.phase,
        )


@contextmanager
def corpus_retriever(
    data: Dataset | RagData, encoder: str, asked: Asked
) -> Iterator[tuple[Retriever, tuple[Problem, ...]]]:
    """The retriever of a collection; without one, of the dataset's corpus in a collection that goes again."""
    stages = [] if asked.rerank is None else [asked.rerank]
    if asked.collection is not None:
        with open_retriever(
            asked.collection, device=asked.device, rerank=stages, rerank_depth=[asked.rerank_depth] if stages else None
        ) as retriever:
            yield retriever, ()
        return
    from mmseek.evaluation import index_dataset
    from mmseek.pipeline import Retriever

    with tempfile.TemporaryDirectory(prefix="mmseek-eval-") as folder:
        scorer = None if asked.rerank is None else load_scorer(asked.rerank, asked.device)
        with Retriever.open(
            Path(folder) / "collection",
            load(encoder, asked.device),
            mode="create",
            reranker=scorer,
            rerank_depth=asked.rerank_depth if scorer else None,
        ) as retriever:
            say(f"indexing {count(data.n_documents, 'document')} for this once; --collection takes one that is there")
            failed = index_dataset(data, retriever)
            yield retriever, failed


def measure_both(
    names: tuple[str, str], data: Dataset | None, asked: Asked
) -> tuple[Comparison, tuple[EvalReport, ...]]:
    """Compare two: each the file of a report, or the spec of an encoder, which is measured now.

    Raises:
        InputError: an encoder is given without a dataset.
    """
    from mmseek.evaluation import Side, compare, read_side

    sides: list[Side] = []
    reports = []
    for name in names:
        if Path(name).is_file():
            sides.append(read_side(Path(name)))
        elif data is None:
            raise InputError(f"{name} is no file of a report: to measure it as an encoder, give --dataset")
        else:
            report = measure(data, name, asked)
            reports.append(report)
            sides.append(Side.of(report))
    return compare(*sides), tuple(reports)


def write_page(path: Path, reports: tuple[EvalReport, ...], comparison: Comparison | None) -> None:
    """Write the page.

    Raises:
        InputError: nothing was measured in this run.
        MissingExtra: matplotlib is not installed.
    """
    from mmseek.api.pages.evaluation import render_evaluation

    if not reports:
        raise InputError("--html needs an encoder that is measured now: reports in files have no rankings to show")
    write_text(path, render_evaluation(reports, comparison))


def write_json(path: Path, document: dict[str, Any]) -> None:
    """Write a document of results.

    Raises:
        ConfigError: the disk refuses it.
    """
    write_text(path, json.dumps(document, ensure_ascii=False, indent=2) + "\n")


def show_report(out: Any, report: EvalReport) -> None:
    """Heading, table and what is odd."""
    out.show(_heading(report), _table(report))
    if report.reranked is not None:
        mean, low, high = report.reranked.gain["ndcg@10"]
        depth = count(report.reranked.depth, "hit")
        out.show(f"{one_line(report.reranked.reranker)} on {depth}: nDCG@10 {mean:+.3f} [{low:+.3f}, {high:+.3f}]")


def show_comparison(out: Any, found: Comparison) -> None:
    """One row a metric, and of each task the headline."""
    from rich.table import Table
    from rich.text import Text

    better, worse, alike = found.wins
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "A", "B", "B - A", "p (Holm)"):
        table.add_column(name, justify="left" if not name else "right")
    rows = dict(found.overall)
    rows |= {f"{one_line(task)}, {found.headline}": group[found.headline] for task, group in found.by_task.items()}
    for name, each in rows.items():
        gain = f"{each.gain:+.3f} [{each.low:+.3f}, {each.high:+.3f}]{' *' if each.significant else ''}"
        table.add_row(Text(name), f"{each.first:.3f}", f"{each.second:.3f}", gain, f"{each.p_holm:.4f}")
    out.show(
        f"{one_line(found.dataset)}, split {one_line(found.split)}: A {one_line(found.first)}, "
        f"B {one_line(found.second)}, "
        f"{count(found.n_queries, 'query', 'queries')}",
        table,
        f"{found.headline}: B is better on {better:,}, worse on {worse:,}, alike on {alike:,}; * p < 0.05 after Holm",
    )


def _heading(report: EvalReport) -> str:
    return (
        f"{one_line(report.dataset)}, split {one_line(report.split)}: encoder {one_line(report.system)}, "
        f"{count(report.n_queries, 'query', 'queries')} over {count(report.n_documents, 'document')}"
    )


def _table(report: EvalReport) -> Any:
    """One row a metric; one column for all queries and one for each task."""
    from rich.table import Table
    from rich.text import Text

    groups: dict[str, GroupResult] = {"all": report.overall, **report.by_task}
    if report.reranked is not None:
        groups = {"no reranking": report.overall, "reranked": report.reranked.overall}
        for task, group in report.by_task.items():
            groups |= {task: group, f"{task}, reranked": report.reranked.by_task[task]}
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for name in groups:
        table.add_column(Text(one_line(name)), justify="right")
    table.add_row("queries", *(f"{group.n_queries:,}" for group in groups.values()))
    for metric in report.metrics:
        table.add_row(metric, *(_cell(group, metric) for group in groups.values()))
    table.add_row("tie rate", *(f"{group.tie_rate:.3f}" for group in groups.values()))
    return table


def _cell(group: GroupResult, metric: str) -> str:
    value, interval = group.metrics.get(metric), group.confidence.get(metric)
    if value is None:
        return ""
    return f"{value:.3f}" if interval is None else f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"
