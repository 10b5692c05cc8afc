"""`mmseek index`: a corpus into a collection."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmseek.cli.captioning import (
    CaptionCallsOption,
    CaptionKeyOption,
    CaptionModelOption,
    CaptionOption,
    CaptionPromptOption,
    captioner_of,
)
from mmseek.cli.failures import EXIT_PARTIAL
from mmseek.cli.indexing import ray_workers, run_indexing
from mmseek.cli.opening import DEFAULT_ENCODER, fewer_tokens, open_for_indexing
from mmseek.cli.options import (
    CollectionOption,
    DeviceOption,
    JsonOption,
    VisualTokensOption,
    beside_place,
    collection_path,
    folder_of,
    writable_file,
)
from mmseek.cli.output import Output, count, one_line, say, verb_output
from mmseek.cli.reading import (
    FiguresOption,
    HostsOption,
    Ocr,
    OcrOption,
    PassagesOption,
    Reading,
    SegmentsOption,
    TablesOption,
    UrlsOption,
)
from mmseek.cli.reports import failure_document, settle_report, show_failures
from mmseek.cli.tune import Kind, RecallOption, build_index
from mmseek.errors import InputError

if TYPE_CHECKING:
    from mmseek.pipeline import IndexReport
    from mmseek.protocols import CollectionInfo


class Engine(StrEnum):
    """Where the encoder runs."""

    local = "local"
    ray = "ray"


def index(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SRC",
            help="Folders, files and URLs: pictures, text, HTML, PDF, Office, EPUB, tables, archives, .jsonl.",
            show_default=False,
        ),
    ],
    collection: CollectionOption,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            "-e",
            metavar="SPEC",
            help="family or family:model[@revision]. [default: the collection's, or mini]",
        ),
    ] = None,
    token_pooling: Annotated[
        int | None,
        typer.Option(
            "--token-pooling",
            metavar="F",
            min=1,
            help="Of a new collection with a vector a token (colqwen2, colpali): make one of F.  [default: 1]",
        ),
    ] = None,
    engine: Annotated[
        Engine, typer.Option("--engine", help="Where the encoder runs: in this process, or in workers of Ray.")
    ] = Engine.local,
    partitions: Annotated[
        int,
        typer.Option("--partitions", metavar="N", min=1, max=100_000, help="Of the engine ray: parts of the work."),
    ] = 64,
    ray_actors: Annotated[
        int | None,
        typer.Option(
            "--ray-actors",
            metavar="N",
            min=1,
            help="Workers that encode, a core each. [default: one a GPU, or a core]",
        ),
    ] = None,
    ray_writers: Annotated[
        int, typer.Option("--ray-writers", metavar="N", min=1, help="Workers that write to a Qdrant server.")
    ] = 2,
    ray_address: Annotated[
        str | None,
        typer.Option("--ray-address", metavar="HOST:PORT", help="A Ray cluster that runs. [default: one for this run]"),
    ] = None,
    resume: Annotated[  # noqa: ARG001  # what it asks for is always done
        bool, typer.Option("--resume", help="Go on with a run that was stopped. Always done; the word is for scripts.")
    ] = False,
    batch_size: Annotated[
        int, typer.Option("--batch-size", metavar="N", min=1, help="Documents that are stored in one step.")
    ] = 256,
    prune: Annotated[
        bool, typer.Option("--prune", help="Also take out documents that are not in SRC any more, removed files, say.")
    ] = False,
    passage_chars: PassagesOption = 2000,
    ocr: OcrOption = Ocr.never,
    pdf_figures: FiguresOption = False,
    pdf_tables: TablesOption = False,
    allow_urls: UrlsOption = False,
    url_host: HostsOption = None,
    video_segments: SegmentsOption = 0.0,
    caption: CaptionOption = None,
    caption_model: CaptionModelOption = None,
    caption_key_file: CaptionKeyOption = None,
    caption_prompt: CaptionPromptOption = None,
    caption_calls: CaptionCallsOption = 1000,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", metavar="FILE", help="Where to list what failed. [default: COLLECTION.failures.jsonl, if any]"
        ),
    ] = None,
    ann: Annotated[
        Kind | None,
        typer.Option("--ann", help="Then build this kind of vector index, as `mmseek tune`. [default: as it is]"),
    ] = None,
    recall: RecallOption = 0.95,
    visual_tokens: VisualTokensOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Index text, pictures and documents into a collection.

    The collection is made if there is none. Run it again at any time: what is unchanged is skipped, what changed is
    replaced, and a run that was stopped or killed goes on. An item that cannot be used is reported with its file, line
    and reason, the rest goes on, and the exit code is 1.

    \b
    mmseek index ~/Pictures notes/ items.jsonl --collection my.index
    """
    with verb_output(as_json) as out:
        place = collection_path(collection)
        if visual_tokens is not None:
            encoder = fewer_tokens(encoder or DEFAULT_ENCODER, visual_tokens)
        if report is not None:
            writable_file(report, "--report")
            folder = folder_of(place)
            if folder is not None and report.resolve().is_relative_to(folder.resolve()):
                raise InputError(f"--report {report} is inside the collection: put it beside")
        workers = None
        if engine is Engine.ray:
            if prune:
                raise InputError("--prune works with --engine local only: run it once more without --engine ray")
            workers = ray_workers(
                place, device, partitions=partitions, actors=ray_actors, writers=ray_writers, address=ray_address
            )
        reading = Reading(
            sources, passage_chars, ocr, pdf_figures, pdf_tables, allow_urls, tuple(url_host or ()), video_segments
        )
        entries = reading.entries()
        captioner = captioner_of(caption, caption_model, caption_key_file, caption_prompt, caption_calls)
        if captioner is not None:
            from mmseek.pipeline.captioning import captioned

            entries = captioned(entries, captioner)
        # The workers have the accelerators; here the encoder only says who it is.
        own = device if workers is None or ann is not None else "cpu"
        with open_for_indexing(place, encoder, device=own, token_pooling=token_pooling) as (model, opened):
            total = reading.count() if captioner is None else None
            done = run_indexing(
                entries, model, opened, total=total, batch_size=batch_size, prune=prune, workers=workers
            )
            build_index(opened, model, ann, recall)
            info = opened.info()
        _tell(out, done, info, place, report)
        if done.failed:
            raise typer.Exit(EXIT_PARTIAL)


def _tell(out: Output, done: IndexReport, info: CollectionInfo, place: Path | str, asked: Path | None) -> None:
    """The summary, and where the failures are listed."""
    from mmseek.pipeline import write_report

    # Beside the collection, never inside: a foreign file in there is a problem to `mmseek verify`.
    path = asked or beside_place(place, ".failures.jsonl")
    written = settle_report(path, done.failed, asked=asked is not None, write=lambda to: write_report(done, to))
    rate = (done.indexed + done.unchanged) / done.seconds if done.seconds > 0 else 0.0
    out.json(
        {
            "collection": info.location,
            "encoder": info.encoder.spec,
            "documents": info.documents,
            "indexed": done.indexed,
            "unchanged": done.unchanged,
            "failed": len(done.failed),
            "skipped": len(done.skipped),
            "removed": done.removed,
            "seconds": round(done.seconds, 3),
            "items_per_second": round(rate, 2),
            "failures": [failure_document(failure) for failure in done.failed[:100]],
            "report": None if written is None else str(written),
        }
    )
    out.show(_table(done, rate), f"{one_line(info.location)} holds {count(info.documents, 'document')}")
    show_failures(done.failed, written)
    if done.removed:
        say(f"took out {count(done.removed, 'document')} that the files no longer have")
    if done.not_pruned:
        say(f"note: --prune took nothing out, because {done.not_pruned}")
    if done.skipped:
        first = "; ".join(one_line(str(notice), 200) for notice in done.skipped[:2])
        say(f"passed over {count(len(done.skipped), 'thing')}: {first}")


def _table(done: IndexReport, rate: float) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("indexed", "unchanged", "failed", "skipped", "seconds", "items/s"):
        table.add_column(name, justify="right")
    numbers = (done.indexed, done.unchanged, len(done.failed), len(done.skipped))
    table.add_row(*(f"{number:,}" for number in numbers), f"{done.seconds:.1f}", f"{rate:,.0f}")
    return table
