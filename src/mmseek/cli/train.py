"""`mmseek train` and `mmseek merge`: a configuration to an encoder, and several encoders to one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmseek.cli.options import JsonOption
from mmseek.cli.output import count, one_line, size, verb_output
from mmseek.cli.steps import ChangesOption, carry_out, source_table, tell_left_out

if TYPE_CHECKING:
    from mmseek.training.plan import Plan


def train(
    config: Annotated[
        str,
        typer.Option(
            "--config", metavar="F.yaml", help="A file, or the name of a recipe: vlm2vec-v2.", show_default=False
        ),
    ],
    changes: ChangesOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be: sizes, steps, memory. Nothing is written.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train an encoder.

    Reads a configuration, trains, and leaves the encoder in OUTPUT/model, where `mmseek embed` loads it from.

    Run the same line again after a run was killed: it goes on from the newest checkpoint with the very losses that it
    would have had. Under torchrun, batches and negatives are shared between the processes. The exit code is 1 if rows
    were left out because they cannot be used.
    """
    with verb_output(as_json) as out:
        from mmseek.training.run import Run, load_config

        run = Run(load_config(config, changes or []))
        tell_left_out(run.bad_rows)
        if dry_run:
            from mmseek.training.plan import plan

            made = plan(run)
            out.json(made.to_json())
            out.show(*_planned(made))
            return
        carry_out(run, out, "encoder")


def _planned(plan: Plan) -> tuple[Any, ...]:
    from rich.text import Text

    memory = ", ".join(f"{name} {size(amount)}" for name, amount in plan.memory.items())
    spread = f"{count(plan.chunks, 'chunk')}, on {count(plan.processes, 'process', 'processes')}"
    trained = f"{plan.trained:,} of {plan.parameters:,} parameters trained"
    return (
        Text(f"{one_line(plan.encoder)}: {plan.dim} dimensions, {trained}"),
        Text(
            f"{count(plan.steps, 'step')} of {count(plan.batch, 'query', 'queries')}, "
            f"{count(plan.negatives, 'hard negative')} each, in {spread}"
        ),
        source_table(plan.sources),
        Text(f"memory, about {size(sum(plan.memory.values()))}: {memory}"),
    )


def merge(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="Folders of models.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="A new folder.", show_default=False)],
    weight: Annotated[
        list[float] | None,
        typer.Option("--weight", metavar="W", help="One a model, in their order. [default: equal]", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Merge models by the weighted mean of their weights.

    The models are checkpoints of one architecture, such as two stages of one training. Configuration and tokenizer come
    from the first.
    """
    with verb_output(as_json) as out:
        from mmseek.training.merge import merge as merge_models

        tensors = merge_models(models, output, weight)
        out.json({"output": str(output), "models": [str(model) for model in models], "tensors": tensors})
        out.show(f"wrote {one_line(str(output))}: {count(tensors, 'tensor')} of {count(len(models), 'model')}")
