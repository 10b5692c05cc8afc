"""`mmseek train-reranker`: mined negatives to an adapter that makes a reranker better."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmseek.cli.options import JsonOption
from mmseek.cli.output import count, one_line, verb_output
from mmseek.cli.steps import ChangesOption, carry_out, source_table, tell_left_out

if TYPE_CHECKING:
    from mmseek.training.reranker import RerankerRun


def train_reranker(
    config: Annotated[Path, typer.Option("--config", metavar="F.yaml", help="The configuration.", show_default=False)],
    changes: ChangesOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be: rows, steps, parameters. Nothing is written.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a reranker that answers Yes or No.

    Reads triples such as `mmseek mine` writes, trains a LoRA adapter, and leaves it in OUTPUT/model, where `mmseek
    rerank` loads it from.

    Run the same line again after a run was killed: it goes on from the newest checkpoint. The exit code is 1 if rows
    were left out because they cannot be used.
    """
    with verb_output(as_json) as out:
        from mmseek.training.reranker import RerankerRun, load_reranker_config

        run = RerankerRun(load_reranker_config(config, changes or []))
        tell_left_out(run.bad_rows)
        if dry_run:
            document, shown = _planned(run)
            out.json(document)
            out.show(*shown)
            return
        carry_out(run, out, "reranker")


def _planned(run: RerankerRun) -> tuple[dict[str, Any], tuple[Any, ...]]:
    from dataclasses import asdict

    from rich.text import Text

    from mmseek.training.plan import planned_sources

    model, sources = run.trainable.reranker.backbone.model, planned_sources(run)
    whole = sum(weight.numel() for weight in model.parameters())
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    document = {
        "reranker": run.config.model.reranker,
        "parameters": whole,
        "trained": trained,
        "steps": run.steps,
        "batch": run.config.batch.size,
        "negatives": run.config.data.negatives,
        "sources": [asdict(source) for source in sources],
    }
    lines = (
        Text(f"{one_line(run.config.model.reranker)}: {trained:,} of {whole:,} parameters trained"),
        Text(
            f"{count(run.steps, 'step')} of {count(run.config.batch.size, 'row')}, each with a positive and "
            f"{count(run.config.data.negatives, 'hard negative')}"
        ),
        source_table(sources),
    )
    return document, lines
