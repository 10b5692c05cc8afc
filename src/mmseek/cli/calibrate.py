"""`mmseek calibrate`: the threshold from which a reranker's scores count as relevant."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mmseek.cli.opening import DEFAULT_ENCODER, load, load_scorer
from mmseek.cli.options import DeviceOption, EncoderOption, JsonOption, writable_file
from mmseek.cli.output import count, one_line, say, verb_output
from mmseek.cli.progress import Meter
from mmseek.cli.reranking import DepthOption


def calibrate(
    dataset: Annotated[
        Path, typer.Option("--dataset", "-d", metavar="DIR", help="Folder of the dataset.", show_default=False)
    ],
    reranker: Annotated[
        str,
        typer.Option("--reranker", "-r", metavar="SPEC", help="`mmseek models` lists them.", show_default=False),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.json", help="For --threshold.", show_default=False)
    ],
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.png", help="Also draw the two distributions of scores.")
    ] = None,
    encoder: EncoderOption = DEFAULT_ENCODER,
    split: Annotated[str, typer.Option("--split", metavar="NAME", help="Which qrels: qrels/NAME.tsv.")] = "dev",
    rerank_depth: DepthOption = 20,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the score from which a reranker's documents count as relevant.

    The first hits of every query of a dataset are scored. The threshold is where the scores of relevant and of
    irrelevant ones cross. Take a split that is used for nothing else.

    \b
    mmseek calibrate -d data/scifact --split train -r cross-encoder:my-model -o threshold.json --plot threshold.png
    mmseek search "a red bicycle" -c my.index --rerank cross-encoder:my-model --threshold threshold.json
    """
    with verb_output(as_json) as out:
        from mmseek.evaluation import load_dataset
        from mmseek.evaluation.calibrating import labelled_scores
        from mmseek.rerank.calibration import calibrate as found
        from mmseek.rerank.calibration import check_plot, save
        from mmseek.rerank.calibration import plot as draw

        writable_file(output, "--output")
        if plot is not None:
            writable_file(plot, "--plot")
            check_plot()
        data = load_dataset(dataset, split)
        scorer, model = load_scorer(reranker, device), load(encoder, device)
        with Meter("queries") as meter:
            relevant, irrelevant = labelled_scores(data, model, scorer, rerank_depth, on_progress=meter.phase)
        about = {"dataset": data.name, "split": data.split, "encoder": model.identity.spec, "depth": rerank_depth}
        result = found(relevant, irrelevant, scorer.identity, about)
        save(result, output)
        if plot is not None:
            draw(relevant, irrelevant, result, plot)
        out.json(result.to_json() | {"output": str(output), "plot": None if plot is None else str(plot)})
        pairs = f"{count(result.relevant, 'relevant pair')}, {count(result.irrelevant, 'irrelevant one')}"
        out.show(
            f"threshold {result.threshold:.4f} from {pairs}",
            f"precision {result.precision:.3f}, recall {result.recall:.3f}, F1 {result.f1:.3f}"
            f" (at 0.5: {result.fixed['precision']:.3f}, {result.fixed['recall']:.3f}, {result.fixed['f1']:.3f})",
        )
        say(f"wrote {one_line(str(output))}" + ("" if plot is None else f" and {one_line(str(plot))}"))
