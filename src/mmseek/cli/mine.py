"""`mmseek mine`: hard negatives for training, and a page that shows some of them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmseek.cli.failures import EXIT_PARTIAL
from mmseek.cli.opening import DEFAULT_ENCODER, load, load_scorer
from mmseek.cli.options import DeviceOption, EncoderOption, JsonOption, writable_file, write_text
from mmseek.cli.output import count, one_line, say, verb_output
from mmseek.cli.progress import Meter
from mmseek.errors import InputError

if TYPE_CHECKING:
    from mmseek.api.pages.results import ResultSection
    from mmseek.training.mining import Example, MiningReport


def mine(
    dataset: Annotated[
        Path, typer.Option("--dataset", "-d", metavar="DIR", help="Folder of the dataset.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT.jsonl", help="Triples to train on.", show_default=False)
    ],
    encoder: EncoderOption = DEFAULT_ENCODER,
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="Which qrels: qrels/NAME.tsv.")] = "train",
    depth: Annotated[int, typer.Option("--depth", help="How many of the whole pool's best are looked at.")] = 50,
    below: Annotated[int, typer.Option("--below", help="C2 begins after this rank.")] = 45,
    negatives: Annotated[int, typer.Option("--negatives", help="Hard negatives a query.")] = 1,
    c1_share: Annotated[float, typer.Option("--c1-share", help="Probability of C1 where there is both.")] = 0.5,
    ratio: Annotated[
        float | None,
        typer.Option("--ratio", help="Drop C2 above this share of the positive's score: 0.95.", show_default=False),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option("--margin", help="Drop C2 above the positive's score less this.", show_default=False),
    ] = None,
    reranker: Annotated[
        str | None,
        typer.Option("--reranker", "-r", metavar="SPEC", help="Must confirm each C2 negative.", show_default=False),
    ] = None,
    confirm_margin: Annotated[
        float, typer.Option("--confirm-margin", help="By how much the reranker must prefer the positive.")
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="Equal seeds choose alike.")] = 0,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Also write a page of examples.", show_default=False)
    ] = None,
    before: Annotated[
        Path | None,
        typer.Option("--before", metavar="REPORT.json", help="An earlier report to compare with.", show_default=False),
    ] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find hard negatives in a dataset's own pool.

    Ranks the whole pool for each query. C1 are candidates above the labelled positive whose modality was not asked for,
    C2 are candidates of the right modality far down; each query gets one of either.

    Run the same line again after a kill: it goes on. The exit code is 1 if some items could not be encoded.
    """
    with verb_output(as_json) as out:
        from mmseek.evaluation import load_dataset
        from mmseek.training.mining import MiningOptions
        from mmseek.training.mining import mine as run_mining

        options = MiningOptions(depth, below, negatives, c1_share, ratio, margin, confirm_margin, seed)
        writable_file(output, "--output")
        if html is not None:
            writable_file(html, "--html")
        data = load_dataset(dataset, split)
        earlier = None if before is None else _rate_before(before, data.name, data.split)
        began = time.monotonic()
        judge = None if reranker is None else load_scorer(reranker, device)
        model = load(encoder, device)
        with Meter("corpus") as meter:
            report, examples = run_mining(data, model, output, options=options, reranker=judge, on_progress=meter.phase)
        document = {
            "output": str(output),
            "dataset": data.name,
            "split": data.split,
            "encoder": model.identity.spec,
            **report.to_json(),
            **({} if earlier is None else {"wrong_modality_at_1_before": earlier}),
            "seconds": round(time.monotonic() - began, 3),
        }
        write_text(Path(f"{output}.report.json"), json.dumps(document, ensure_ascii=False, indent=2) + "\n")
        if html is not None:
            write_text(html, _page(examples, data.name, report, earlier))
        out.json(document)
        out.show(*_shown(report, output, earlier))
        for warning in data.warnings:
            say(f"note: {warning}")
        failed = report.failed_queries + report.failed_documents
        for name, reason in failed[:3]:
            say(f"failed: {one_line(name)}: {reason}")
        if failed:
            raise typer.Exit(EXIT_PARTIAL)


def _rate_before(path: Path, name: str, split: str) -> float:
    """The rate of wrong modality that an earlier mining of the same queries told.

    Raises:
        InputError: the file is no report of these queries.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if (found["dataset"], found["split"]) == (name, split):
            return float(found["wrong_modality_at_1"])
        other = f"is of {found['dataset']}, {found['split']}, and not of {name}, {split}"
    except OSError as error:
        other = f"cannot be read ({error.strerror})"
    except (ValueError, KeyError, TypeError):
        other = "is no report of mmseek mine"
    raise InputError(f"--before {path} {other}: give the OUT.jsonl.report.json of an earlier mining")


def _rate(report: MiningReport, earlier: float | None) -> str:
    before = "" if earlier is None else f" ({earlier:.3f} before)"
    return f"wrong modality at rank 1: {report.wrong_modality_at_1:.3f}{before}"


def _shown(report: MiningReport, output: Path, earlier: float | None) -> tuple[Any, ...]:
    from rich.text import Text

    return (
        Text(f"wrote {count(report.rows, 'row')} to {one_line(str(output))}"),
        Text(f"C1: {report.chosen_c1:,} chosen, {count(report.with_c1, 'query has', 'queries have')} one"),
        Text(f"C2: {report.chosen_c2:,} chosen, {count(report.with_c2, 'query has', 'queries have')} one"),
        Text(f"without a hard negative: {report.without_negative:,}; refused by the reranker: {report.refused:,}"),
        Text(_rate(report, earlier)),
        Text(f"labelled positive in the ranking: {report.positive_found:.3f}"),
    )


def _page(examples: list[Example], name: str, report: MiningReport, earlier: float | None) -> str:
    from mmseek.api.pages import render_page

    summary = (
        f"{report.chosen_c1:,} of C1 (wrong modality, above the positive) and {report.chosen_c2:,} of C2 (right "
        f"modality, far down) for {count(report.rows, 'query', 'queries')}; "
        f"{_rate(report, earlier)}"
    )
    return render_page([_section(each) for each in examples], title=f"Hard negatives of {name}", summary=summary)


def _section(example: Example) -> ResultSection:
    from mmseek._types import Hit, Query
    from mmseek.api.pages.results import ResultSection

    query = example.query
    where = "not found" if example.positive_rank is None else f"at rank {example.positive_rank}"
    kinds = ", ".join(f"{choice.kind} at rank {choice.candidate.rank}" for _, choice in example.negatives)
    first = Hit(example.positive_rank or 0, example.positive.id, example.positive_score, {}, example.positive)
    rest = (
        Hit(choice.candidate.rank, document.id, choice.candidate.score, {}, document)
        for document, choice in example.negatives
    )
    return ResultSection(
        title=one_line(query.content.text, 80) or query.id,
        query=Query(query.content, query.instruction),
        hits=[first, *rest],
        note=f"labelled: {where}; hard negatives: {kinds}",
    )
