"""Options of the verbs that rerank, and what they say of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from mmseek.cli.output import count, one_line, say
from mmseek.errors import InputError, MmseekError

if TYPE_CHECKING:
    from mmseek.pipeline import Reranking, Retriever, SearchResult
    from mmseek.pipeline.reranking import Fusion

__all__ = [
    "DepthOption",
    "DepthsOption",
    "RerankOption",
    "RerankersOption",
    "no_hits",
    "note_reranking",
    "reranking_document",
    "reranking_of",
    "show_explained",
]

RerankOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--rerank", metavar="SPEC", help="Order the first hits anew; `mmseek models` lists rerankers."),
]
RerankersOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--rerank",
        metavar="SPEC",
        help="Order the first hits anew; `mmseek models` lists rerankers. Given again, the next orders the best of it.",
    ),
]
DepthOption: TypeAlias = Annotated[
    int, typer.Option("--rerank-depth", metavar="N", min=1, help="How many of each ranking are ordered anew.")
]
DepthsOption: TypeAlias = Annotated[
    list[int] | None,
    typer.Option(
        "--rerank-depth",
        metavar="N",
        min=1,
        help="How many hits are ordered anew; -k if that is more. Once for each --rerank. "
        "[default: 50; with several 100, then 20]",
    ),
]
_NO_HITS = "no hits: the collection is empty, or nothing in it has these words or meets the conditions"


def reranking_of(retriever: Retriever, *, threshold: str | None, fusion: str | None, budget: float | None) -> Reranking:
    """What the options ask of the rerankers.

    Raises:
        InputError: an option needs a reranker and there is none, or cannot be read.
    """
    from mmseek.pipeline import Reranking
    from mmseek.rerank.calibration import read_threshold

    if retriever.reranker is None and (fusion, budget) != (None, None):
        raise InputError("--rerank-fusion and --rerank-budget need a reranker: add --rerank SPEC")
    identity = None if retriever.reranker is None else retriever.reranker.identity
    least = None if threshold is None else read_threshold(threshold, identity)
    return Reranking(threshold=least, fusion=None if fusion is None else _fusion(fusion), budget=budget)


def _fusion(text: str) -> Fusion:
    if text == "rrf":
        return "rrf"
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"--rerank-fusion is rrf or a weight such as 0.5, not {text!r}") from error


def reranking_document(retriever: Retriever, result: SearchResult) -> dict[str, Any]:
    """What `mmseek search --json` adds of its second stage; nothing if there is none."""
    from mmseek.pipeline.reranking import stage_json

    found: dict[str, Any] = {"below_threshold": result.below} if result.below else {}
    if retriever.reranker is None:
        return found
    return found | {
        "reranker": retriever.reranker.identity.spec,
        "rerankers": [stage_json(stage) for stage in result.stages],
        "timings": {step: round(took, 3) for step, took in result.timings.items()},
        "unscored": [{"id": name, "reason": str(error)} for name, error in result.unscored.items()],
    }


def note_reranking(result: SearchResult) -> None:
    """Say which hits were not scored, where the time ended, and what the threshold left out."""
    _note_unscored(result.unscored)
    for stage in result.stages:
        if not stage.complete:
            scored = f"{stage.scored} of {count(stage.asked, 'hit')}"
            say(f"note: the time was over when {one_line(stage.reranker)} had scored {scored}; the rest follow")
    if result.below and result.hits:
        say(f"note: {count(result.below, 'hit')} did not reach the threshold")


def no_hits(result: SearchResult) -> str:
    """Why the list is empty."""
    if result.below:
        return f"no hits: of {result.below:,} that were found none reaches the threshold"
    return _NO_HITS


def show_explained(result: SearchResult) -> Sequence[Any]:
    """The explanations for the terminal, one block a hit."""
    from rich.text import Text

    blocks = []
    for hit in result.hits:
        told = result.explained.get(hit.id)
        if told is None:
            continue
        lines = [f"{hit.rank}. {one_line(hit.id)}: before rank {told.first_rank}, score {told.first_score:.4f}"]
        lines += [f"   {name} {score:.4f}" for name, score in told.scores.items()]
        if told.sent is not None:
            sizes = f"{told.sent.tokens} tokens" if told.sent.tokens is not None else "text"
            sizes += "".join(f", a picture of {n}" for n in told.sent.picture_tokens)
            lines += [f"   sent ({sizes}, {told.took_ms:.1f} ms): {one_line(told.sent.prompt, 600)}"]
        blocks.append(Text("\n".join(lines)))
    return blocks


def _note_unscored(unscored: Mapping[str, MmseekError]) -> None:
    for name, error in list(unscored.items())[:1]:
        more = f" (and {len(unscored) - 1} more)" if len(unscored) > 1 else ""
        say(f"note: {one_line(name)} was not scored by the reranker and comes last: {error}{more}")
