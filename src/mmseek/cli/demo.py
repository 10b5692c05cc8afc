"""`mmseek demo`: a small corpus made, indexed and searched in front of your eyes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmseek.cli.indexing import run_indexing
from mmseek.cli.opening import DEFAULT_ENCODER, open_for_indexing
from mmseek.cli.options import DeviceOption, JsonOption, write_text
from mmseek.cli.output import Output, count, one_line, say, verb_output
from mmseek.cli.search import hit_document, hit_table
from mmseek.errors import CollectionExists, EncoderMismatch, InputError

if TYPE_CHECKING:
    from mmseek.demo import DemoQuery
    from mmseek.pipeline import IndexReport, SearchResult

    Answers = list[tuple[DemoQuery, SearchResult]]


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where everything is written.")
    ] = Path(),
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a small corpus, index it and search it.

    Asks in words, with a picture and with both, prints the hits and writes a page of them. Writes DIR/demo_corpus (the
    items, a model for your own), DIR/demo_collection and DIR/demo.html.
    """
    with verb_output(as_json) as out:
        from mmseek.demo import build_demo_corpus

        place, page = output / "demo_collection", output / "demo.html"
        try:
            corpus = build_demo_corpus(output / "demo_corpus")
        except OSError as error:
            raise InputError(
                f"--output {output} cannot be written ({error.strerror}): choose another folder"
            ) from error
        say(f"made the corpus: {corpus}")
        done, answers = _index_and_ask(corpus, place, device)
        say(f"indexed {count(done.indexed, 'item')}, {done.unchanged:,} unchanged, into {place}")
        write_text(page, _page(answers, done.indexed + done.unchanged))
        out.json(_document(corpus, place, page, done, answers))
        _show(out, answers)
        say(f"open {page.resolve().as_uri()} in a browser, or ask for yourself:")
        say(f'  mmseek search "a map" --collection {place}')


def _index_and_ask(corpus: Path, place: Path, device: str | None) -> tuple[IndexReport, Answers]:
    from mmseek.demo import demo_queries
    from mmseek.index.corpus import read_corpus

    try:
        with open_for_indexing(place, DEFAULT_ENCODER, device=device) as (model, collection):
            from mmseek.pipeline import Retriever

            done = run_indexing(read_corpus(corpus), model, collection)
            retriever = Retriever(model, collection)
            return done, [(asked, retriever.search(asked.query)) for asked in demo_queries()]
    except EncoderMismatch as error:
        raise CollectionExists(
            f"{place} was made by an earlier version of the default encoder: delete it, or give another --output"
        ) from error


def _page(answers: Answers, documents: int) -> str:
    from mmseek.api.pages import ResultSection, render_page

    sections = [
        ResultSection(asked.title, asked.query, result.hits, result.took_ms, note=asked.explanation)
        for asked, result in answers
    ]
    summary = f"{len(answers)} questions to {count(documents, 'item')}: texts, pictures, and both."
    return render_page(sections, title="mmseek demo", summary=summary)


def _show(out: Output, answers: Answers) -> None:
    from rich.text import Text

    for asked, result in answers:
        out.show("", Text(one_line(asked.title), style="bold"), Text(one_line(asked.explanation), style="dim"))
        out.show(hit_table(result.hits[:3]))


def _document(corpus: Path, place: Path, page: Path, done: IndexReport, answers: Answers) -> dict[str, Any]:
    return {
        "corpus": str(corpus),
        "collection": str(place),
        "html": str(page),
        "indexed": done.indexed,
        "unchanged": done.unchanged,
        "failed": len(done.failed),
        "queries": [
            {
                "title": asked.title,
                "text": asked.query.content.text or None,
                "images": len(asked.query.content.images),
                "took_ms": round(result.took_ms, 3),
                "hits": [hit_document(hit) for hit in result.hits],
            }
            for asked, result in answers
        ],
    }
