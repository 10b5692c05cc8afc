"""`mmseek eval`: how well an encoder, or a whole retriever, finds what a dataset calls relevant."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmseek.cli.answers import (
    AnswersOption,
    AtOnceOption,
    CharsOption,
    Endpoint,
    HitsOption,
    JudgeKeyOption,
    JudgeModelOption,
    JudgeUrlOption,
    KeyFileOption,
    LimitOption,
    LlmUrlOption,
    MmsearchOption,
    ModelOption,
    PicturesOption,
    RagAsked,
    RagOption,
    RequeryOption,
    ThresholdOption,
    TokensOption,
    evaluate_answers,
    judged_runs,
    show_preferences,
)
from mmseek.cli.evaluating import (
    Asked,
    Files,
    measure,
    measure_both,
    show_comparison,
    show_report,
    write_json,
    write_page,
)
from mmseek.cli.failures import EXIT_PARTIAL
from mmseek.cli.opening import DEFAULT_ENCODER
from mmseek.cli.options import DeviceOption, EncoderOption, JsonOption, ModeChoice, writable_file, write_text
from mmseek.cli.output import say, verb_output
from mmseek.cli.reranking import DepthOption, RerankOption
from mmseek.errors import InputError

if TYPE_CHECKING:
    from mmseek.evaluation import Dataset, EvalReport


class _PoolChoice(StrEnum):
    LOCAL = "local"
    GLOBAL = "global"


def evaluate(
    dataset: Annotated[
        Path | None, typer.Option("--dataset", "-d", metavar="DIR", help="Folder of the dataset.", show_default=False)
    ] = None,
    encoder: EncoderOption = DEFAULT_ENCODER,
    split: Annotated[
        str | None,
        typer.Option("--split", metavar="NAME", help="Which part of the dataset. [default: test; with --rag its own]"),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", metavar="NAME", help="beir, mbeir, mmeb, vidore or xtd. [default: as it looks]"),
    ] = None,
    pool: Annotated[
        _PoolChoice, typer.Option("--pool", help="Of M-BEIR: each task's own candidates, or those of all.")
    ] = _PoolChoice.LOCAL,
    task: Annotated[
        list[str] | None, typer.Option("--task", metavar="NAME", help="Only this task of the dataset; repeatable.")
    ] = None,
    collection: Annotated[
        str | None,
        typer.Option("--collection", "-c", metavar="C", help="Measure the retriever of this collection."),
    ] = None,
    mode: Annotated[
        ModeChoice | None,
        typer.Option("--mode", help="Measure a retriever that searches by vector, in words, or by both."),
    ] = None,
    rerank: RerankOption = None,
    rerank_depth: DepthOption = 50,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option("--compare", metavar="A B", help="Two encoders, or files of --output: is B better than A?"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Also write the JSON document, with each query's metrics."),
    ] = None,
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Also write the tables as Markdown.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Also write a page of plots and of failed queries.")
    ] = None,
    rag: RagOption = None,
    llm_url: LlmUrlOption = None,
    model: ModelOption = None,
    api_key_file: KeyFileOption = None,
    k: HitsOption = 5,
    threshold: ThresholdOption = None,
    requery: RequeryOption = False,
    context_chars: CharsOption = 12_000,
    pictures: PicturesOption = 6,
    max_tokens: TokensOption = 1024,
    mmsearch: MmsearchOption = False,
    judge_url: JudgeUrlOption = None,
    judge_model: JudgeModelOption = None,
    judge_key_file: JudgeKeyOption = None,
    answers: AnswersOption = None,
    at_once: AtOnceOption = 4,
    limit: LimitOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score an encoder's rankings on a dataset; with --rerank, also those of a reranker beside them.

    With --rag, answers are scored instead: every question of a file is asked as mmseek ask does.

    Ranks the corpus for every query and scores the rankings, overall and by task. With --collection or --mode a whole
    retriever is measured instead: its index, hybrid search and rerankers. With --compare two are, with significance.

    The folder has BEIR's layout, with pictures: corpus.jsonl, queries.jsonl (with "exclude" and "candidates" where a
    query needs them) and qrels/SPLIT.tsv; or that of M-BEIR, MMEB, ViDoRe or XTD. The intervals are 95 % bootstrap
    intervals of the mean over queries. The exit code is 1 if some items could not be encoded: such a query scores zero,
    such a document is never found.

    \b
    mmseek eval -d data/scifact
    mmseek eval -d data/M-BEIR --pool global --task cirr_task7 -e clip:MODEL
    mmseek eval -d data/scifact --mode hybrid --rerank mini
    mmseek eval -d data/scifact --compare mini st:MODEL --html both.html
    mmseek eval --rag qa.jsonl -c my.index --llm-url http://localhost:8000/v1 --model qwen3-vl --answers done.jsonl
    """
    with verb_output(as_json) as out:
        for path, option in ((output, "--output"), (markdown, "--markdown"), (html, "--html")):
            if path is not None:
                writable_file(path, option)
        asked = Asked(
            collection, None if mode is None else mode.value, rerank, rerank_depth, device, details=html is not None
        )
        if rag is not None:
            evaluate_answers(
                out,
                RagAsked(
                    rag,
                    split,
                    limit,
                    Endpoint(llm_url, model, api_key_file),
                    Endpoint(judge_url, judge_model, judge_key_file),
                    k,
                    threshold,
                    requery,
                    mmsearch,
                    at_once,
                    answers,
                    context_chars,
                    pictures,
                    max_tokens,
                ),
                encoder,
                asked,
                Files(output, markdown, html),
            )
            return
        judge = Endpoint(judge_url, judge_model, judge_key_file)
        if Endpoint(llm_url, model, api_key_file) or (judge and compare is None):
            raise InputError("endpoints are for answers: add --rag PATH, or for a judge --compare A B")
        data = _dataset(dataset, split or "test", form, pool, task)
        if compare is not None:
            _compare(out, compare, data, asked, Files(output, markdown, html), judge)
            return
        if data is None:
            raise InputError("missing option '--dataset': give the folder of the dataset")
        report = measure(data, encoder, asked)
        _write(report, Files(output, markdown, html))
        out.json(report.to_json())
        show_report(out, report)
        for warning in report.warnings:
            say(f"note: {warning}")
        if output is not None:
            say(f"wrote {output}")
        if report.failed_queries or report.failed_corpus:
            raise typer.Exit(EXIT_PARTIAL)


def _dataset(
    folder: Path | None, split: str, form: str | None, pool: _PoolChoice, tasks: list[str] | None
) -> Dataset | None:
    from mmseek.evaluation import load_dataset

    if folder is None:
        return None
    return load_dataset(folder, split, format=form, pool=pool.value, tasks=tuple(tasks or ()))


def _write(report: EvalReport, files: Files) -> None:
    from mmseek.evaluation.markdown import report_markdown

    if files.output is not None:
        write_json(files.output, report.to_json(per_query=True))
    if files.markdown is not None:
        write_text(files.markdown, report_markdown(report))
    if files.html is not None:
        write_page(files.html, (report,), None)


def _compare(
    out: Any, names: tuple[str, str], data: Dataset | None, asked: Asked, files: Files, judge: Endpoint
) -> None:
    from mmseek.evaluation.markdown import comparison_markdown

    preferred = judged_runs(names, judge) if judge else None
    found, reports = measure_both(names, data, asked)
    document = found.to_json() | ({} if preferred is None else {"judge": preferred.to_json()})
    if files.output is not None:
        write_json(files.output, document)
    if files.markdown is not None:
        write_text(files.markdown, comparison_markdown(found))
    if files.html is not None:
        write_page(files.html, reports, found)
    out.json(document)
    show_comparison(out, found)
    if preferred is not None:
        show_preferences(out, preferred)
    for warning in dict.fromkeys([*found.warnings, *(each for report in reports for each in report.warnings)]):
        say(f"note: {warning}")
    if any(report.failed_queries or report.failed_corpus for report in reports):
        raise typer.Exit(EXIT_PARTIAL)
