"""`mmseek synthesize`: training rows that a chat endpoint writes over your pictures."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmseek.cli.failures import EXIT_PARTIAL
from mmseek.cli.opening import DEFAULT_ENCODER, load
from mmseek.cli.options import DeviceOption, EncoderOption, JsonOption, writable_file, write_text
from mmseek.cli.output import count, one_line, say, verb_output
from mmseek.cli.progress import Meter

if TYPE_CHECKING:
    from mmseek.training.synthesis import SynthesisReport


def synthesize(
    pictures: Annotated[
        list[Path],
        typer.Argument(
            metavar="PICTURES...", help="Pictures, folders, or what mmseek index reads.", show_default=False
        ),
    ],
    llm_url: Annotated[
        str, typer.Option("--llm-url", metavar="URL", help="A chat API as OpenAI's: http://localhost:8000/v1, say.")
    ],
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="The model, by the name the endpoint knows.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT.jsonl", help="Rows to train on.", show_default=False)
    ],
    rows: Annotated[int, typer.Option("--rows", metavar="N", min=1, help="How many are asked for.")] = 100,
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            metavar="NAME",
            help="classification, vqa, retrieval, or retrieval:text->image; may be given again. [default: all]",
            show_default=False,
        ),
    ] = None,
    language: Annotated[
        list[str] | None,
        typer.Option("--language", metavar="NAME", help="May be given again. [default: English]", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Equal seeds ask alike.")] = 0,
    review: Annotated[bool, typer.Option("--review", help="Judge each row once more, in a call of its own.")] = False,
    min_score: Annotated[
        int, typer.Option("--min-score", min=1, max=5, help="Rows that the model scores lower are dropped.")
    ] = 3,
    attempts: Annotated[
        int, typer.Option("--attempts", min=1, help="How often a row is asked for whose answer cannot be used.")
    ] = 2,
    max_calls: Annotated[
        int | None, typer.Option("--max-calls", min=0, help="Stop after so many calls in all.", show_default=False)
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            "--max-tokens", min=0, help="Stop after so many tokens in all, read and written.", show_default=False
        ),
    ] = None,
    answer_tokens: Annotated[int, typer.Option("--answer-tokens", min=1, help="How long an answer may be.")] = 2048,
    temperature: Annotated[float, typer.Option("--temperature", min=0, max=2, help="Of the model.")] = 1.0,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds that a call may take.")] = 120.0,
    parallel: Annotated[int, typer.Option("--parallel", min=1, help="Calls at once.")] = 4,
    api_key_file: Annotated[
        Path | None,
        typer.Option("--api-key-file", metavar="FILE", help="A file with the endpoint's key. [default: the setting's]"),
    ] = None,
    encoder: EncoderOption = DEFAULT_ENCODER,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a model write training rows over pictures.

    Task, modalities and language of each row are drawn; in one call the model describes the pictures, drafts
    instruction, query, positive and hard negative, judges the draft and mends it. Rows with several pictures take those
    that the encoder finds alike.

    Answers are kept in OUT.jsonl.answers.jsonl and never asked for again: run the same line after a kill, or with more
    --rows. The exit code is 1 if rows failed or a limit was reached.
    """
    with verb_output(as_json) as out:
        from mmseek.config import settings
        from mmseek.media import MediaLimits
        from mmseek.pipeline.chat import Chat, read_key
        from mmseek.training.synthesis import SynthesisOptions, chosen_kinds, read_pool
        from mmseek.training.synthesis import synthesize as run

        options = SynthesisOptions(
            rows=rows,
            kinds=chosen_kinds(task or ()),
            languages=tuple(language or ("English",)),
            seed=seed,
            attempts=attempts,
            review=review,
            min_score=min_score,
            parallel=parallel,
            max_calls=max_calls,
            max_tokens=max_tokens,
        )
        key = read_key(api_key_file)
        chat = Chat(llm_url, model, key, max_tokens=answer_tokens, temperature=temperature, timeout=timeout)
        writable_file(output, "--output")
        limits, began = MediaLimits.from_settings(settings()), time.monotonic()
        pool = read_pool(pictures, limits)
        if any(len(kind.roles) > 1 for kind in options.kinds):
            pool.compare(load(encoder, device))
        with Meter("rows", rows) as meter:
            report = run(pool, chat, output, options, limits=limits, on_progress=meter.update)
        document = {
            "output": str(output),
            "model": model,
            "pictures": len(pool),
            "failed_pictures": pool.failures,
            **asdict(report),
            "seconds": round(time.monotonic() - began, 3),
        }
        write_text(Path(f"{output}.report.json"), json.dumps(document, ensure_ascii=False, indent=2) + "\n")
        out.json(document)
        out.show(*_shown(report, output))
        for name, reason in [*pool.failures, *report.failed][:3]:
            say(f"failed: {one_line(name)}: {one_line(reason, 300)}")
        if report.stopped is not None:
            say(f"note: not all was asked for: {one_line(report.stopped, 300)}")
        if pool.failures or report.failed or report.unusable or report.stopped is not None:
            raise typer.Exit(EXIT_PARTIAL)


def _shown(report: SynthesisReport, output: Path) -> tuple[Any, ...]:
    from rich.text import Text

    tokens = report.prompt_tokens + report.completion_tokens
    about = "about " if report.tokens_guessed else ""
    bad = ", ".join(f"{number:,} {kind}" for kind, number in sorted(report.bad_answers.items())) or "none"
    return (
        Text(f"wrote {count(report.rows, 'row')} of {report.asked:,} asked for to {one_line(str(output))}"),
        Text(f"mended by the model: {report.revised:,}; dropped: {report.dropped:,}; doubles: {report.doubles:,}"),
        Text(f"answers that could not be used: {bad}; rows without any that could: {report.unusable:,}"),
        Text(f"{count(report.calls, 'call')}, {about}{tokens:,} tokens; {report.known:,} answers were there already"),
        *(Text(f"{number:,} {kind}") for kind, number in sorted(report.by_kind.items())),
    )
