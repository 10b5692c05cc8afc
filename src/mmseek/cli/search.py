"""`mmseek search`: ask a collection."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmseek.cli.options import (
    CollectionOption,
    DeviceOption,
    JsonOption,
    ModeChoice,
    collection_path,
    writable_file,
    write_text,
)
from mmseek.cli.output import count, one_line, say, verb_output
from mmseek.cli.queries import Wishes, build_query
from mmseek.cli.reranking import (
    DepthsOption,
    RerankersOption,
    no_hits,
    note_reranking,
    reranking_document,
    reranking_of,
    show_explained,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mmseek._types import Document, Hit, Query
    from mmseek.pipeline.explaining import Explanation


def search(
    collection: CollectionOption,
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="Words to search for.", show_default=False)] = None,
    image: Annotated[
        Path | None, typer.Option("--image", "-i", metavar="FILE", help="A picture to search for, alone or with TEXT.")
    ] = None,
    instruction: Annotated[
        str | None, typer.Option("--instruction", metavar="TEXT", help="What the encoder is to look for.")
    ] = None,
    k: Annotated[int, typer.Option("-k", metavar="N", help="How many hits.")] = 10,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", metavar="ID", help="Never rank this id. May be given again.")
    ] = None,
    candidate: Annotated[
        list[str] | None, typer.Option("--candidate", metavar="ID", help="Rank only this id. May be given again.")
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option("--also", metavar="TEXT:WEIGHT", help="One more text; below 0: keep away. Again for more."),
    ] = None,
    also_image: Annotated[
        list[str] | None,
        typer.Option("--also-image", metavar="FILE:WEIGHT", help="One more picture, with a weight. Again for more."),
    ] = None,
    like: Annotated[
        list[str] | None, typer.Option("--like", metavar="ID", help="Near to this document. May be given again.")
    ] = None,
    unlike: Annotated[
        list[str] | None, typer.Option("--unlike", metavar="ID", help="Far from this document. May be given again.")
    ] = None,
    group: Annotated[bool, typer.Option("--group", help="Only the best document of each parent.")] = False,
    fold_captions: Annotated[
        bool, typer.Option("--fold-captions", help="A picture and its caption (mmseek index --caption) as one hit.")
    ] = False,
    rerank: RerankersOption = None,
    rerank_depth: DepthsOption = None,
    rerank_fusion: Annotated[
        str | None,
        typer.Option("--rerank-fusion", metavar="W", help="A weight for 'score before + W * rerank', or rrf."),
    ] = None,
    rerank_budget: Annotated[
        float | None,
        typer.Option("--rerank-budget", metavar="SECONDS", help="Stop reranking then; the rest keep their order."),
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option("--threshold", metavar="N|FILE", help="Leave hits below out; FILE is of mmseek calibrate."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Tell of each hit where it was before and what the reranker was sent.")
    ] = False,
    condition: Annotated[
        str | None,
        typer.Option(
            "--filter", metavar="EXPR", help="Condition on metadata: 'year >= 2020 and tags contains \"map\"'."
        ),
    ] = None,
    mode: Annotated[
        ModeChoice, typer.Option("--mode", help="By vector, in words, or by both. Pictures alone: by vector.")
    ] = ModeChoice.DENSE,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Also write a page of the hits, pictures included.")
    ] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the documents nearest to a text, a picture, or both.

    \b
    mmseek search "a red bicycle" -c my.index
    mmseek search --image photo.jpg -c my.index
    mmseek search "the same in blue" --image photo.jpg -c my.index --html found.html
    mmseek search "red shoes" --also "leather:-0.3" --like shoe-17 -c my.index
    """
    with verb_output(as_json) as out:
        place = collection_path(collection)
        query = build_query(
            text,
            image,
            instruction=instruction,
            k=k,
            exclude=exclude or (),
            mode=mode.value,
            condition=condition,
            wishes=Wishes(
                candidate,
                also or (),
                also_image or (),
                like or (),
                unlike or (),
                group=group,
                fold_captions=fold_captions,
            ),
        )
        if html is not None:
            writable_file(html, "--html")
        from mmseek.cli.opening import note_unused_instruction, open_retriever

        with open_retriever(place, device=device, rerank=rerank or (), rerank_depth=rerank_depth) as retriever:
            note_unused_instruction(retriever.encoder.identity.spec, instruction, rerank=rerank or ())
            how = reranking_of(retriever, threshold=threshold, fusion=rerank_fusion, budget=rerank_budget)
            result = retriever.search(query, reranking=how, explain=explain)
        hits = [hit_document(hit, result.explained.get(hit.id)) for hit in result.hits]
        out.json({"hits": hits, "took_ms": round(result.took_ms, 3)} | reranking_document(retriever, result))
        note_reranking(result)
        if result.hits:
            out.show(hit_table(result.hits), f"{count(len(result.hits), 'hit')} in {result.took_ms:.0f} ms")
        else:
            out.show(no_hits(result))
        out.show(*show_explained(result))
        if html is not None:
            from mmseek.api.pages import render_results

            write_text(html, render_results(query, result.hits, title=_title(query), took_ms=result.took_ms))
            say(f"wrote {html}")


def hit_document(hit: Hit, explanation: Explanation | None = None) -> dict[str, Any]:
    """A hit as `--json` writes it."""
    from mmseek.items import item_to_json

    found = {} if explanation is None else {"explain": _explanation_json(explanation)}
    return found | {
        "rank": hit.rank,
        "id": hit.id,
        "score": float(hit.score),
        "scores": {name: float(score) for name, score in hit.scores.items()},
        "document": item_to_json(hit.document),
    }


def _explanation_json(explanation: Explanation) -> dict[str, Any]:
    from mmseek.pipeline.explaining import explanation_json

    return explanation_json(explanation)


def hit_table(hits: Sequence[Hit]) -> Any:
    """Hits for the terminal: rank, score, id, modality and what is in them."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("rank", justify="right")
    table.add_column("score", justify="right")
    table.add_column("id", overflow="fold", max_width=40)
    table.add_column("kind")
    table.add_column("content", overflow="fold")
    for hit in hits:
        content = "\n".join(_snippets(hit.document))
        table.add_row(
            str(hit.rank), f"{hit.score:.4f}", Text(one_line(hit.id)), hit.document.content.modality, Text(content)
        )
    return table


def _snippets(document: Document) -> list[str]:
    """The pictures' places and the start of the text, or of the caption where there is no text."""
    lines = [one_line(str(picture), 200) for picture in document.content.images[:2]]
    if len(document.content.images) > len(lines):
        lines[-1] += f" (+{len(document.content.images) - len(lines)})"
    words = document.content.text.strip() or _caption(document)
    return [*lines, one_line(words, 160)] if words else lines


def _caption(document: Document) -> str:
    names = ("caption", "title", "alt", "name", "description", "label")
    return next((value for name in names if isinstance(value := document.metadata.get(name), str) and value), "")


def _title(query: Query) -> str:
    words = one_line(query.content.text, 80)
    return words or ("Hits for a picture" if query.content.images else "Hits for a mixed query")
