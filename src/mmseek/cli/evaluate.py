"""`mmseek eval`: how well an encoder finds what a dataset calls relevant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmseek.cli.failures import EXIT_PARTIAL
from mmseek.cli.opening import DEFAULT_ENCODER, load, load_scorer
from mmseek.cli.options import DeviceOption, EncoderOption, JsonOption, writable_file, write_text
from mmseek.cli.output import count, one_line, say, verb_output
from mmseek.cli.progress import Meter
from mmseek.cli.reranking import DepthOption, RerankOption

if TYPE_CHECKING:
    from mmseek.evaluation import EvalReport, GroupResult


def evaluate(
    dataset: Annotated[
        Path, typer.Option("--dataset", "-d", metavar="DIR", help="Folder of the dataset.", show_default=False)
    ],
    encoder: EncoderOption = DEFAULT_ENCODER,
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="Which qrels: qrels/NAME.tsv.")] = "test",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Also write the JSON document to this file.")
    ] = None,
    rerank: RerankOption = None,
    rerank_depth: DepthOption = 50,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score an encoder's rankings on a dataset; with --rerank, also those of a reranker beside them.

    Ranks the corpus for every query and scores the rankings, overall and by task.

    The folder has BEIR's layout, with pictures: corpus.jsonl, queries.jsonl (with "exclude" and "candidates" where a
    query needs them) and qrels/SPLIT.tsv. The intervals are 95 % bootstrap intervals of the mean over queries. The exit
    code is 1 if some items could not be encoded: such a query scores zero, such a document is never found.
    """
    with verb_output(as_json) as out:
        from mmseek.evaluation import evaluate as run_evaluation
        from mmseek.evaluation import load_dataset

        if output is not None:
            writable_file(output, "--output")
        data = load_dataset(dataset, split)
        model = load(encoder, device)
        scorer = None if rerank is None else load_scorer(rerank, device)
        with Meter("queries") as meter:
            report = run_evaluation(data, model, reranker=scorer, rerank_depth=rerank_depth, on_progress=meter.phase)
        document = report.to_json()
        if output is not None:
            write_text(output, json.dumps(document, ensure_ascii=False, indent=2) + "\n")
        out.json(document)
        out.show(_heading(report), _table(report))
        if report.reranked is not None:
            mean, low, high = report.reranked.gain["ndcg@10"]
            depth = count(report.reranked.depth, "hit")
            out.show(f"{one_line(report.reranked.reranker)} on {depth}: nDCG@10 {mean:+.3f} [{low:+.3f}, {high:+.3f}]")
        for warning in report.warnings:
            say(f"note: {warning}")
        if output is not None:
            say(f"wrote {output}")
        if report.failed_queries or report.failed_corpus:
            raise typer.Exit(EXIT_PARTIAL)


def _heading(report: EvalReport) -> str:
    return (
        f"{one_line(report.dataset)}, split {one_line(report.split)}: encoder {one_line(report.encoder)}, "
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
